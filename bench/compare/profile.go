package compare

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/headwaterdb/headwater/bench/load"
)

// profileLines is how many functions the report shows, once by cumulative time and once by their own.
const profileLines = 40

// profileOf runs a load under a CPU profile and lists its top functions.
func (r *runner) profileOf(ctx context.Context, id string) (p profileResult, err error) {
	row, plain := rowByID(id)
	values, _ := valueRowByID(id) // validated
	if p.Work = values.work; plain {
		p.Work = row.work
	}
	p.Server = r.cfg.ProfileTarget
	t := r.bin.target(p.Server)
	if t == nil {
		return p, fmt.Errorf("%s is not among the servers", p.Server)
	}
	dir := r.cfg.ProfileDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "headwater-bench-pprof-"); err != nil {
			return p, err
		}
		defer os.RemoveAll(dir)
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return p, err
	}
	file := filepath.Join(dir, t.name+"-"+id+".pprof")
	if plain {
		_, err = r.measure(ctx, t, row, func(ctx context.Context, s *server) error { return r.profile(ctx, s, file) })
	} else {
		_, err = r.valuesOnce(ctx, t, &values, append(values.argsOf(r.cfg), "--profile="+file), true)
	}
	if err != nil {
		return p, err
	}
	if p.Cumulative, err = pprofTop(ctx, t.binary, file, "-cum"); err != nil {
		return p, err
	}
	p.Flat, err = pprofTop(ctx, t.binary, file, "-flat")
	return p, err
}

// profile takes a CPU profile of the server for the measured window and writes it to file.
func (r *runner) profile(ctx context.Context, s *server, file string) error {
	if err := sleep(ctx, r.cfg.Warmup); err != nil {
		return err
	}
	return load.FetchProfile(ctx, s.endpoint, file, r.cfg.Duration)
}

// pprofTop returns pprof's list of the functions that took most time, sorted by -cum or -flat.
func pprofTop(ctx context.Context, binary, file, sort string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", sort, "-nodecount="+strconv.Itoa(profileLines),
		binary, file)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go tool pprof: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
