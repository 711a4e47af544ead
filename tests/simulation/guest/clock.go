//go:build wasip1 || headwater_simulation

package main

import (
	"sync"
	"time"
)

// driftMax is by which part a pod's clock is fast or slow at most. Elections bear clocks that differ by a fifth.
const driftMax = 0.05

// clock is a pod's: of a rate of its own, and still while its machine is suspended.
type clock struct {
	began time.Time
	rate  float64

	mu      sync.Mutex
	lost    time.Duration // while it stood still
	stopped time.Time     // zero: it goes
}

// now reads the clock.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !c.stopped.IsZero() {
		now = c.stopped
	}
	return c.began.Add(time.Duration(c.rate * float64(now.Sub(c.began)-c.lost)))
}

func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = time.Now()
}

func (c *clock) goOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost += time.Since(c.stopped)
	c.stopped = time.Time{}
}
