package robustness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/load"
)

const (
	// progressMin and progressMax are how many requests succeed between two faults.
	progressMin, progressMax = 30, 500

	// pauseMax is the longest pause of the process. Some requests time out during a pause, others outlast it.
	pauseMax = 600 * time.Millisecond
	// downMax is how long the server stays away before a restart.
	downMax = 300 * time.Millisecond
)

// faults counts what was injected.
type faults struct {
	kills, stops, pauses int
}

func (f faults) String() string {
	return fmt.Sprintf("%d kills, %d stops, %d pauses", f.kills, f.stops, f.pauses)
}

// inject makes faults until the time is over and the traffic is complete, each fault after some progress. It begins
// with a kill, and leaves the server running.
func inject(ctx context.Context, rnd *rand.Rand, s *hw.Server, run *load.Run, until time.Time) (f faults, err error) {
	for first := true; first || run.GoesOn(until); first = false {
		if err := run.Progress(ctx, progressMin+rnd.Int64N(progressMax-progressMin)); err != nil {
			return f, err
		}
		switch n := rnd.IntN(10); {
		case first || n < 6:
			f.kills++
			err = errors.Join(s.Kill(), wait(ctx, rnd, downMax), s.Start())
		case n < 8:
			f.stops++
			err = errors.Join(s.Stop(), wait(ctx, rnd, downMax), s.Start())
		default:
			f.pauses++
			err = errors.Join(s.Pause(), wait(ctx, rnd, pauseMax), s.Resume())
		}
		if err != nil {
			return f, err
		}
	}
	return f, run.Progress(ctx, progressMin)
}

// wait lets a random time up to limit pass: the length of a fault.
func wait(ctx context.Context, rnd *rand.Rand, limit time.Duration) error {
	timer := time.NewTimer(time.Duration(rnd.Int64N(int64(limit))))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
