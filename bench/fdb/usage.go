package fdb

import (
	"errors"
	"os"
	"time"

	"github.com/headwaterdb/headwater/bench/proc"
	"github.com/headwaterdb/headwater/tests/stack"
)

// Names under which CPU is counted, beside the kinds of package stack.
const (
	kindKV     = "kv"
	kindHub    = "watchhub"
	kindKeeper = "leasekeeper"
	kindLoad   = "load" // hwbench
	kindOther  = "others"
)

// settle is how long after its start hwbench may be busy with connections before it sends its first request.
const settle = 300 * time.Millisecond

// cores are CPU seconds per second, by kind.
type cores map[string]float64

// cpuTimes reads what all processes of the stack, the load generator and the machine have used so far.
func cpuTimes(s *stack.Stack, loadPID int) (map[string]time.Duration, error) {
	t := map[string]time.Duration{}
	var errs []error
	add := func(kind string, pid int) {
		d, err := proc.CPU(pid)
		errs = append(errs, err)
		t[kind] += d
		t[kindOther] -= d
	}
	for _, p := range s.Processes("") {
		if p.Running() {
			add(p.Kind, p.PID())
		}
	}
	add(kindLoad, loadPID)
	self, err := proc.CPU(os.Getpid())
	errs = append(errs, err)
	busy, err := proc.Busy()
	t[kindOther] += busy - self
	return t, errors.Join(append(errs, err)...)
}

// usageStep is how often CPU is read, so that there is a reading from shortly before the load's end.
const usageStep = 200 * time.Millisecond

// usage measures the CPU of everything from when the load's window begins to when it ends, counted from the load's
// start.
func usage(s *stack.Stack, loadPID int, warmup, duration time.Duration, ended <-chan struct{}) (cores, error) {
	if !wait(warmup+settle, ended) {
		return nil, nil
	}
	before, err := cpuTimes(s, loadPID)
	if err != nil {
		return nil, err
	}
	begin, after, secs := time.Now(), before, 0.0
	for time.Since(begin) < duration-settle && wait(usageStep, ended) {
		now, err := cpuTimes(s, loadPID)
		if err != nil {
			break // the load has just ended
		}
		after, secs = now, time.Since(begin).Seconds()
	}
	if secs == 0 {
		return nil, nil
	}
	c := cores{}
	for kind, t := range after {
		c[kind] = max(0, (t-before[kind]).Seconds()/secs)
	}
	return c, nil
}

// wait reports whether d went by before the load ended.
func wait(d time.Duration, ended <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ended:
		return false
	}
}
