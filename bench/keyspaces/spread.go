package keyspaces

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/headwaterdb/headwater/bench/proc"
)

// profileTimeout bounds the wait for a profile beyond its window.
const profileTimeout = 10 * time.Second

// spreadSample is what one load has cost.
type spreadSample struct {
	writes   int
	rate     float64       // writes per second
	cpu      time.Duration // of the server, for each write
	p50, p99 time.Duration
}

// spread measures the same writes in many keyspaces and in one, in turn, with the same clients. What a write costs the
// server is what is compared.
func spread(ctx context.Context, o Options, r *report) (err error) {
	args := o.ServerArgs
	if o.Profiles != "" {
		args = append([]string{"--enable-pprof"}, args...)
	}
	s, err := start(ctx, o, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.create(ctx, o.Spread); err != nil {
		return err
	}
	many := load{users: o.Spread, rate: o.SpreadRate, window: o.SpreadWindow, keyspace: name}
	one := many
	one.keyspace = func(int) string { return name(0) }
	loads := []struct {
		name string
		load
		samples []spreadSample
	}{{name: "one", load: one}, {name: "many", load: many}}
	for _, l := range loads { // opens the keyspaces, and writes every key once
		l.rate, l.window = 1, time.Second
		if _, err := s.users(ctx, l.load); err != nil {
			return err
		}
	}
	for round := range o.Rounds {
		for i := range loads {
			l := &loads[i]
			o.Log.Info("the same writes in one keyspace and in many", "keyspaces", l.name, "round", round)
			stop := s.profile(ctx, o, fmt.Sprintf("%s-%d.pprof", l.name, round))
			sample, err := s.spread(ctx, l.load)
			if err = errors.Join(err, stop()); err != nil {
				return err
			}
			l.samples = append(l.samples, sample)
		}
	}
	for _, l := range loads {
		what := fmt.Sprintf("%d clients that write %d/s each, in %s", o.Spread, o.SpreadRate, l.name)
		m := medianOf(l.samples)
		r.line(what+": writes/s; CPU of the server for each; p50, p99", "%.0f; %s; %s, %s", m.rate,
			m.cpu.Round(100*time.Nanosecond), m.p50, m.p99)
	}
	var ratios []float64
	for i, one := range loads[0].samples {
		ratios = append(ratios, float64(loads[1].samples[i].cpu)/float64(one.cpu))
	}
	slices.Sort(ratios)
	r.line(fmt.Sprintf("CPU in many against one: median (lowest – highest of %d rounds)", o.Rounds),
		"%.2f (%.2f – %.2f)", ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
	return nil
}

// spread runs a load and measures what it has cost the server.
func (s *server) spread(ctx context.Context, l load) (m spreadSample, err error) {
	pid := s.cmd.Process.Pid
	was, err := proc.CPU(pid)
	if err != nil {
		return m, err
	}
	begin := time.Now()
	took, err := s.users(ctx, l)
	if err != nil {
		return m, err
	}
	now, err := proc.CPU(pid)
	if err != nil {
		return m, err
	}
	return spreadSample{
		writes: len(took), rate: float64(len(took)) / time.Since(begin).Seconds(),
		cpu: (now - was) / time.Duration(len(took)), p50: at(took, 0.5), p99: at(took, 0.99),
	}, nil
}

// medianOf returns the sample in the middle by CPU.
func medianOf(all []spreadSample) spreadSample {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b spreadSample) int { return int(a.cpu - b.cpu) })
	return sorted[len(sorted)/2]
}

// profile writes a CPU profile of the server during the next load to a file in Options.Profiles, if that is set. stop
// waits for it.
func (s *server) profile(ctx context.Context, o Options, file string) (stop func() error) {
	if o.Profiles == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	seconds := max(1, int(o.SpreadWindow.Seconds()))
	go func() {
		ctx, cancel := context.WithTimeout(ctx, o.SpreadWindow+profileTimeout)
		defer cancel()
		done <- s.fetchProfile(ctx, seconds, filepath.Join(o.Profiles, file))
	}()
	return func() error { return <-done }
}

func (s *server) fetchProfile(ctx context.Context, seconds int, file string) (err error) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", s.socket)
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"http://admin/debug/pprof/profile?seconds="+strconv.Itoa(seconds), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s", resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, resp.Body)
	return err
}
