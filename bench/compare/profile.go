package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// profileLines is how many functions the report shows, by cumulative and by own time.
const profileLines = 40

// profileRow runs a row under a CPU profile and lists its top functions.
func (r *runner) profileRow(ctx context.Context, row row) (p profileResult, err error) {
	p = profileResult{Work: row.work, Server: r.cfg.ProfileTarget}
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
	file := filepath.Join(dir, t.name+"-"+row.id+".pprof")
	_, err = r.measure(ctx, t, row, func(ctx context.Context, s *server) error { return r.profile(ctx, s, file) })
	if err != nil {
		return p, err
	}
	if p.Cumulative, err = pprofTop(ctx, t.binary, file, "-cum"); err != nil {
		return p, err
	}
	p.Flat, err = pprofTop(ctx, t.binary, file, "-flat")
	return p, err
}

// profile takes a CPU profile of the server for the measured window, over HTTP on its client port, and writes it to file.
func (r *runner) profile(ctx context.Context, s *server, file string) (err error) {
	if err := sleep(ctx, r.cfg.Warmup); err != nil {
		return err
	}
	url := "http://" + s.endpoint + "/debug/pprof/profile?seconds=" + strconv.Itoa(max(1, int(r.cfg.Duration.Seconds())))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, resp.Body)
	return err
}

// pprofTop returns pprof's list of the functions that took most time, sorted by -cum or -flat.
func pprofTop(ctx context.Context, binary, file, sort string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", sort, "-nodecount="+strconv.Itoa(profileLines), binary, file)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go tool pprof: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
