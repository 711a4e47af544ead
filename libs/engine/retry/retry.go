package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Policy is how a caller waits between attempts.
type Policy struct {
	// Min is the pause after the first failure; it doubles with each further one up to Max.
	Min, Max time.Duration
	// Attempts is how often Do calls at most; 0: until its context ends.
	Attempts int
}

// doublingsMax keeps the doubling from overflowing; Max comes long before.
const doublingsMax = 20

// Pause returns the pause after n failures before the last one, n >= 0: Min doubled n times, at most Max, and by
// chance between half of that and all of it.
func (p Policy) Pause(n int) time.Duration {
	d := max(p.Min, 1) << min(n, doublingsMax)
	if d <= 0 || d > p.Max {
		d = p.Max
	}
	return d/2 + rand.N(d-d/2+1)
}

// Wait sleeps for Pause(n). It returns ctx's error if that ends first.
func (p Policy) Wait(ctx context.Context, n int) error { return Sleep(ctx, p.Pause(n)) }

// Do calls f until it succeeds, fails with an error that again refuses, or has been called Attempts times, with
// pauses in between. It returns f's last error, or ctx's if that ends while it waits. ctx is not looked at before the
// first call.
func (p Policy) Do(ctx context.Context, again func(error) bool, f func() error) error {
	for n := 0; ; n++ {
		err := f()
		if err == nil || !again(err) || p.Attempts > 0 && n+1 >= p.Attempts {
			return err
		}
		if err := p.Wait(ctx, n); err != nil {
			return err
		}
	}
}

// Pauses are those of a loop that goes on for ever: they grow while attempts fail, and begin anew after one that has
// succeeded.
type Pauses struct {
	Policy
	failures int
}

// Wait sleeps for the next pause. It returns ctx's error if that ends first.
func (p *Pauses) Wait(ctx context.Context) error {
	n := p.failures
	p.failures++
	return p.Policy.Wait(ctx, n)
}

// Reset says that an attempt has succeeded.
func (p *Pauses) Reset() { p.failures = 0 }

// Sleep waits for d. It returns ctx's error if that ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
