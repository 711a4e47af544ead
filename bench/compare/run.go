package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/proc"
)

// runner is one comparison.
type runner struct {
	cfg *Config
	bin *binaries
	log *slog.Logger
	rep *report

	failures    []error
	interrupted bool
}

// Main parses args, runs the comparison and writes the report to out; progress goes to log.
func Main(ctx context.Context, args []string, out io.Writer, log *slog.Logger) error {
	cfg := &Config{}
	flags := cfg.FlagSet()
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := errors.Join(cfg.preset(flags), cfg.validate()); err != nil {
		return err
	}
	rep, runErr := run(ctx, cfg, args, log)
	if rep == nil {
		return runErr
	}
	return errors.Join(runErr, write(cfg, rep, out))
}

// write writes the report wherever it is wanted.
func write(cfg *Config, rep *report, out io.Writer) error {
	text := rep.markdown()
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	if cfg.Out != "" {
		if err := os.WriteFile(cfg.Out, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if cfg.Docs != "" {
		if err := rep.writeDocs(cfg.Docs); err != nil {
			return err
		}
	}
	if cfg.JSON == "" {
		return nil
	}
	b, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(cfg.JSON, b, 0o644)
}

// run runs the comparison. The report leaves out what fails, and names it; the error names it too. A nil report means
// that nothing could be run.
func run(ctx context.Context, cfg *Config, args []string, log *slog.Logger) (*report, error) {
	if cfg.Root == "" {
		wd, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		if cfg.Root, err = FindRoot(wd); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "headwater-bench-bin-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &runner{cfg: cfg, log: log, rep: &report{Command: "compare " + strings.Join(args, " ")}}
	r.rep.Machine = cfg.MachineInfo(ctx)
	for _, line := range r.rep.Machine {
		log.Info(line)
	}
	if r.bin, err = cfg.build(ctx, dir); err != nil {
		return nil, err
	}
	r.rep.Notes = r.bin.notes
	for _, t := range r.bin.targets {
		r.rep.Servers = append(r.rep.Servers, serverInfo{Name: t.name, Title: t.title, Command: t.command})
	}
	for _, step := range []func(context.Context){
		r.loads, r.values, r.watches, r.space, r.memory, r.bigData, r.profiles,
	} {
		step(ctx)
	}
	return r.rep, errors.Join(r.failures...)
}

// fail notes that something could not be measured. Once the context has ended, everything that is left fails; fail
// notes that once.
func (r *runner) fail(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		what, err = "the comparison", ctx.Err()
		if r.interrupted {
			return
		}
		r.interrupted = true
	}
	err = fmt.Errorf("%s: %w", what, err)
	r.log.Error(err.Error())
	r.failures = append(r.failures, err)
	first, _, _ := strings.Cut(err.Error(), "\n")
	r.rep.Notes = append(r.rep.Notes, "**Failed**: "+first)
}

// loads runs the rows, each in interleaved rounds. A server that fails in a row has no further rounds of that row.
func (r *runner) loads(ctx context.Context) {
	for _, id := range r.cfg.Rows {
		row, ok := rowByID(id)
		if !ok { // a load of larger values, or of watches
			continue
		}
		res := rowResult{ID: id, Work: row.work, Samples: map[string][]load.Result{}}
		failed := map[string]bool{}
		for round := range r.cfg.Rounds {
			for _, t := range r.bin.targets {
				if failed[t.name] || t.name == nameNull && !row.null {
					continue
				}
				s, err := r.measureQuietly(ctx, t, row, round)
				if err != nil {
					r.fail(ctx, fmt.Sprintf("%s on %s, round %d", row.work, t.name, round+1), err)
					failed[t.name] = true
					delete(res.Samples, t.name)
					continue
				}
				res.Samples[t.name] = append(res.Samples[t.name], s)
			}
		}
		r.rep.Rows = append(r.rep.Rows, res)
	}
}

// measureQuietly measures a row and repeats it while others used the machine, up to Config.Retries times. The
// quietest measurement counts: the choice looks at the noise alone, never at the result.
func (r *runner) measureQuietly(ctx context.Context, t *target, row row, round int) (best load.Result, err error) {
	for try := range r.cfg.Retries + 1 {
		s, err := r.measure(ctx, t, row, nil)
		if err != nil {
			return load.Result{}, err
		}
		r.logSample(row, t, round, &s)
		if try == 0 || s.Server.Others < best.Server.Others {
			best = s
		}
		if best.Server.Others <= r.cfg.NoiseMax {
			break
		}
	}
	return best, nil
}

func (r *runner) logSample(row row, t *target, round int, s *load.Result) {
	level, note := slog.LevelInfo, ""
	if s.Server.Others > r.cfg.NoiseMax {
		level, note = slog.LevelWarn, "noisy: others used the CPU"
	}
	average, _ := proc.LoadAverage() // zero where there is none
	r.log.Log(context.Background(), level, row.work, "server", t.name, "round", round+1, "per_second", int64(s.PerSec),
		"p50", s.Latencies[0].P50, "cpu_us", fmt.Sprintf("%.2f", s.Server.CPUPerUnit*1e6),
		"other_cores", fmt.Sprintf("%.2f", s.Server.Others), "load_average", average, "note", note)
}

// measure runs one row once on a fresh server. While the load runs, measure calls beside if it is not nil.
func (r *runner) measure(ctx context.Context, t *target, row row,
	beside func(ctx context.Context, s *server) error,
) (load.Result, error) {
	dir, remove, err := tempDir(r.cfg.Dir)
	if err != nil {
		return load.Result{}, err
	}
	defer remove()
	o := startOptions{dir: dir, tls: row.tls}
	if beside != nil {
		o.args = []string{"--enable-pprof"}
	}
	s, err := t.start(ctx, o)
	if err != nil {
		return load.Result{}, err
	}
	defer s.kill()
	if row.auth {
		if err := s.withUsers(ctx); err != nil {
			return load.Result{}, err
		}
	}
	if row.fill && t.name != nameNull {
		if _, err := r.hwbench(ctx, s,
			append([]string{"fill", "--conns=4", "--clients=20"}, row.fillArgs...)...); err != nil {
			return load.Result{}, err
		}
	}
	args := slices.Concat(row.args,
		[]string{"--warmup=" + r.cfg.Warmup.String(), "--duration=" + r.cfg.Duration.String()})
	if t.name == nameNull {
		args = append(args, "--verify=false")
	}
	besideErr := make(chan error, 1)
	if beside == nil {
		besideErr <- nil
	} else {
		go func() { besideErr <- beside(ctx, s) }()
	}
	res, err := r.hwbench(ctx, s, args...)
	if err = errors.Join(err, <-besideErr); err != nil {
		return load.Result{}, err
	}
	return res, s.stop()
}

// hwbench runs a load of package load against a server and returns its result.
func (r *runner) hwbench(ctx context.Context, s *server, args ...string) (load.Result, error) {
	out, err := r.runHwbench(ctx, s, args...)
	if err != nil {
		return load.Result{}, err
	}
	var res load.Result
	if err := json.Unmarshal(out, &res); err != nil {
		return load.Result{}, fmt.Errorf("hwbench %s: %w", args[0], err)
	}
	return res, nil
}

// runHwbench runs the load tool against a server and returns the JSON it prints.
func (r *runner) runHwbench(ctx context.Context, s *server, args ...string) ([]byte, error) {
	if s.tls {
		args = append(args[:len(args):len(args)], "--tls")
	}
	if s.users {
		args = append(args[:len(args):len(args)], "--user="+loadUser+":"+loadPassword)
	}
	args = append(args[:len(args):len(args)], "--json", "--endpoints="+s.endpoint,
		"--server-pid="+strconv.Itoa(s.pid()))
	cmd := exec.CommandContext(ctx, r.bin.hwbench, args...)
	cmd.SysProcAttr = childAttr()
	var out, errText bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errText
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("hwbench %s: %w: %s%s", strings.Join(args, " "), err,
			strings.TrimSpace(errText.String()), s.logEnd())
	}
	return out.Bytes(), nil
}

// profiles runs the wanted rows once more under a CPU profile.
func (r *runner) profiles(ctx context.Context) {
	for _, id := range r.cfg.Profile {
		p, err := r.profileOf(ctx, id)
		if err != nil {
			r.fail(ctx, "profile of "+p.Work, err)
			continue
		}
		r.rep.Profiles = append(r.rep.Profiles, p)
	}
}
