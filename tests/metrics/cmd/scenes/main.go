// Command scenes brings a real etcd and Headwater into the same situations. It writes down their /metrics before and
// after each, for tests/metrics/mixin, which is a module of its own:
//
//	scenes DIR
//
// writes DIR/<server>-<scene>-<0 or 1>.prom.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// patience bounds the whole, on a busy machine too.
const patience = 5 * time.Minute

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scenes:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want a directory, got %q", args)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s := stage{dir: args[0]}
	all := []func(context.Context, stage) error{etcdScenes, headwaterScenes, podScenes, deploymentScene}
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, scenes := range all { // concurrently, because they mostly wait
		wg.Go(func() { errs[i] = scenes(ctx, s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// stage writes scenes to files.
type stage struct{ dir string }

// play writes down what the server at url shows before and after a scene.
func (s stage) play(ctx context.Context, server, scene, url string, do func(context.Context, string) error) error {
	if err := s.write(ctx, server+"-"+scene+"-0", url); err != nil {
		return err
	}
	if err := do(ctx, url); err != nil {
		return fmt.Errorf("%s, %s: %w", server, scene, err)
	}
	return s.write(ctx, server+"-"+scene+"-1", url)
}

func (s stage) write(ctx context.Context, name, url string) error {
	text, err := scrape(ctx, url)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(filepath.Join(s.dir, name+".prom"), []byte(text), 0o644)
}

func scrape(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("/metrics: %s", resp.Status)
	}
	return string(b), err
}

// leader waits until the server at url shows that it has a leader, or that it has none.
func leader(ctx context.Context, url string, has bool) error {
	want := "\netcd_server_has_leader 0\n"
	if has {
		want = "\netcd_server_has_leader 1\n"
	}
	for {
		text, err := scrape(ctx, url)
		if err == nil && strings.Contains(text, want) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", strings.TrimSpace(want), errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
