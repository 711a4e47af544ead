package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// profileLines is how many functions the report shows, by cumulative and by own time.
const profileLines = 40

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
