package fdb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/headwaterdb/headwater/bench/compare"
	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/tests/stack"
)

const hwbenchPackage = "github.com/headwaterdb/headwater/bench/cmd/hwbench"

// freePorts looks for ports between portsFrom and portsTo, which are below the ports that the kernel assigns by itself.
const portsFrom, portsTo = 21_000, 32_000

// bench is one run.
type bench struct {
	cfg     *Config
	log     *slog.Logger
	dir     string
	cluster string // cluster file
	fdb     stack.FoundationDB
	hwbench string
	stack   *stack.Stack
	runs    int // of loads, for their prefixes

	kv, hub, keeper []*stack.Process

	countPrefix string // of the keys that are counted
	countFilled bool   // they are there

	opened bool // the keyspaces of keyspaceRows
}

// Main parses args, runs all rows and writes the report to out; progress goes to log.
func Main(ctx context.Context, args []string, out io.Writer, log *slog.Logger) error {
	cfg := &Config{args: args}
	f := cfg.FlagSet()
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := cfg.validate(f); err != nil {
		return err
	}
	rep, err := run(ctx, cfg, log)
	if rep == nil {
		return err
	}
	text := rep.markdown()
	if _, werr := io.WriteString(out, text); werr != nil {
		return errors.Join(err, werr)
	}
	if cfg.Docs != "" {
		err = errors.Join(err, writeDocs(cfg.Docs, text))
	}
	return err
}

func writeDocs(path, text string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	doc, err := compare.ReplaceSection(string(b), section, "\n"+text+"\n")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(doc), 0o644)
}

// run runs the rows. A nil report means that nothing could be run.
func run(ctx context.Context, cfg *Config, log *slog.Logger) (rep *report, err error) {
	b := &bench{cfg: cfg, log: log}
	if b.dir, err = os.MkdirTemp(cfg.Dir, "headwater-bench-fdb-"); err != nil {
		return nil, err
	}
	if cfg.Keep {
		log.Info("data and logs", "dir", b.dir)
	} else {
		defer os.RemoveAll(b.dir)
	}
	rep = &report{
		machine: (&compare.Config{Root: cfg.root, Dir: cfg.Dir}).MachineInfo(ctx),
		command: "bench-fdb " + strings.Join(cfg.args, " "), samples: map[string][]sample{},
	}
	versions, err := b.start(ctx)
	if err != nil {
		return nil, err
	}
	rep.machine = append(rep.machine, versions...)
	defer func() { err = errors.Join(err, b.stack.Stop()) }()
	var errs []error
	failed := map[string]bool{}
	for round := range cfg.Rounds {
		for _, r := range rows() {
			if failed[r.id] || !slices.Contains(cfg.Rows, r.id) {
				continue
			}
			s, err := b.quietly(ctx, r, round)
			if err != nil {
				err = fmt.Errorf("%s, round %d: %w", r.work, round+1, err)
				log.Error(err.Error())
				errs = append(errs, err)
				rep.failed = append(rep.failed, r.work)
				failed[r.id] = true
				delete(rep.samples, r.id)
				if ctx.Err() != nil {
					return rep, errors.Join(errs...)
				}
				continue
			}
			rep.samples[r.id] = append(rep.samples[r.id], s)
		}
	}
	return rep, errors.Join(errs...)
}

// quietly runs a row and repeats it while other programs used the cores, up to Config.Retries times. The quietest run
// counts: the choice looks at the noise alone, never at the result.
func (b *bench) quietly(ctx context.Context, r row, round int) (best sample, err error) {
	for try := range b.cfg.Retries + 1 {
		s, err := r.run(ctx, b)
		if err != nil {
			return sample{}, err
		}
		b.log.Info(r.work, "round", round+1, "sample", s.String())
		if try == 0 || s.cpu[kindOther] < best.cpu[kindOther] {
			best = s
		}
		if best.cpu[kindOther] <= b.cfg.NoiseMax {
			break
		}
	}
	return best, nil
}

// start builds and starts everything and stops what most rows do not need. It returns the versions of what runs.
func (b *bench) start(ctx context.Context) (versions []string, err error) {
	fdb, err := stack.FindFoundationDB(b.cfg.Home)
	if err != nil {
		return nil, fmt.Errorf("bench-fdb needs FoundationDB 7.3 (FDB_HOME=directory with bin, lib and include): %w",
			err)
	}
	b.fdb = fdb
	b.log.Info("building")
	b.hwbench = filepath.Join(b.dir, "hwbench")
	if err := fdb.GoBuild(b.hwbench, hwbenchPackage); err != nil {
		return nil, err
	}
	programs, err := stack.Build(b.dir, fdb)
	if err != nil {
		return nil, err
	}
	base, err := freePorts(ctx)
	if err != nil {
		return nil, err
	}
	b.stack, err = stack.Start(ctx, stack.Config{
		Dir: filepath.Join(b.dir, "stack"), Port: base, BasePort: base + 1, Keyspace: "bench", FoundationDB: fdb,
		Programs: programs, NoRouter: true,
		PodArgs: b.podArgs(), Admin: true,
	})
	if err != nil {
		return nil, err
	}
	b.cluster = filepath.Join(b.dir, "stack", "fdb.cluster")
	b.kv, b.hub = b.stack.Processes(kindKV), b.stack.Processes(kindHub)
	b.keeper = b.stack.Processes(kindKeeper)
	for _, p := range slices.Concat(b.keeper[1:], b.kv[1:]) {
		if err := p.Stop(); err != nil {
			return nil, errors.Join(err, b.stack.Stop())
		}
	}
	for _, c := range [][]string{{fdb.Server, "--version"}, {programs.NATS, "--version"}} {
		out, err := exec.CommandContext(ctx, c[0], c[1:]...).Output()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", c[0], err), b.stack.Stop())
		}
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		versions = append(versions, first)
	}
	versions = append(versions, fmt.Sprintf("1 fdbserver (single, ssd), 1 NATS, 1 kv pod%s, 2 watchhub pods, 1 "+
		"leasekeeper pod", flagsNote(b.cfg.KVArgs)))
	return versions, nil
}

// podArgs are the pods' flags beside those of package stack.
func (b *bench) podArgs() map[string][]string {
	args := map[string][]string{kindKV: b.cfg.KVArgs}
	if b.cfg.ProfileDir != "" {
		for _, kind := range []string{kindKV, kindHub} {
			args[kind] = append(args[kind][:len(args[kind]):len(args[kind])], "--enable-pprof")
		}
	}
	return args
}

func flagsNote(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return " (" + strings.Join(args, " ") + ")"
}

// freePorts returns the first of enough consecutive ports on which nothing listens.
func freePorts(ctx context.Context) (int, error) {
	for base := portsFrom; base < portsTo; base += stack.PortsUsed + 1 {
		free := true
		for p := base; p <= base+stack.PortsUsed && free; p++ {
			l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(p))
			if free = err == nil; free {
				l.Close()
			}
		}
		if free {
			return base, nil
		}
	}
	return 0, errors.New("no free ports")
}

// result is what any command of hwbench prints.
type result struct {
	load.Result
	Values map[string]float64 `json:"values"`
}

// prefix returns a key prefix that no load has used. It is as long as hwbench's default.
func (b *bench) prefix() string {
	b.runs++
	return fmt.Sprintf("/b%06d/", b.runs)
}

// load runs a load and measures the CPU of its window, which has the length of the configuration's if the load takes
// one.
func (b *bench) load(ctx context.Context, window bool, args ...string) (res result, used cores, err error) {
	args = append(args, "--json")
	if window {
		args = append(args, "--warmup="+b.cfg.Warmup.String(), "--duration="+b.cfg.Duration.String())
	}
	cmd := exec.CommandContext(ctx, b.hwbench, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	if err := cmd.Start(); err != nil {
		return res, nil, err
	}
	ended, measured := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		if window {
			used, err = usage(b.stack, cmd.Process.Pid, b.cfg.Warmup, b.cfg.Duration, ended)
		}
		measured <- err
	}()
	profiled := make(chan error, 1)
	go func() { profiled <- b.profile(ctx, window, args[0], ended) }()
	err = cmd.Wait()
	close(ended)
	if err = errors.Join(err, <-measured, <-profiled); err != nil {
		return res, nil, fmt.Errorf("hwbench %s: %w: %s", strings.Join(args, " "), err,
			strings.TrimSpace(text.String()))
	}
	return res, used, json.Unmarshal(out.Bytes(), &res)
}

// profile writes CPU profiles of kv-1 and the hubs in the window, if the configuration asks for them.
func (b *bench) profile(ctx context.Context, window bool, command string, ended <-chan struct{}) (err error) {
	if b.cfg.ProfileDir == "" || !window || !wait(b.cfg.Warmup+settle, ended) {
		return nil
	}
	pods := []*stack.Process{b.kv[0], b.hub[0], b.hub[1]}
	errs := make([]error, len(pods))
	var wg sync.WaitGroup
	for i, p := range pods {
		wg.Go(func() {
			body, err := get(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.Address,
				max(1, int(b.cfg.Duration.Seconds())-1)))
			if err == nil {
				err = os.WriteFile(filepath.Join(b.cfg.ProfileDir,
					fmt.Sprintf("%d-%s-%s.pprof", b.runs, command, p.Name)), body, 0o644)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return body, err
}

// metric returns the sum of a counter without labels over pods.
func metric(ctx context.Context, name string, pods ...*stack.Process) (sum float64, err error) {
	for _, p := range pods {
		body, err := get(ctx, "http://"+p.Metrics+"/metrics")
		if err != nil {
			return 0, err
		}
		v, err := parseMetric(string(body), name)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.Name, err)
		}
		sum += v
	}
	return sum, nil
}

func parseMetric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, errors.New("no metric " + name)
}
