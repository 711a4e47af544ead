package compose

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/server"
)

// Times of waiting for a store that cannot be reached when a pod starts. The waiting has no limit except the start's
// context, because a restart of the pod would not find the store sooner.
const (
	// storeTimeout bounds one attempt. A commit to an engine that is not there would wait for ever.
	storeTimeout = 10 * time.Second
	// storePauseMin and storePauseMax bound the pause between two attempts. It doubles.
	storePauseMin = 100 * time.Millisecond
	storePauseMax = 2 * time.Second
)

// passing says whether an error may pass by itself.
func passing(err error) bool {
	return engine.ClassOf(err).Passes() || errors.Is(err, mvcc.ErrUnavailable) ||
		errors.Is(err, context.DeadlineExceeded)
}

// AwaitStore runs f, which reads or writes the store when the pod starts, until it succeeds, or fails for a reason that
// does not pass by itself, or ctx ends. Until then nobody is served: clients get Unavailable, and health checks say
// that the pod is alive but not ready. It must not be called after Serve. f may run several times.
func (d *Deployment) AwaitStore(ctx context.Context, f func(context.Context) error) error {
	err := attempt(ctx, f)
	if err == nil || !passing(err) || ctx.Err() != nil {
		return err
	}
	begin := time.Now()
	d.Log.Warn("the store cannot be reached; waiting for it", "error", err)
	d.ready.setStore(fmt.Errorf("the store cannot be reached: %w", err))
	defer d.ready.setStore(nil)
	defer d.server.AnswerNotReady(server.NotReadyOptions{
		Why:      func() error { return d.ready.check(ctx) },
		Versions: versions,
		Metrics:  d.metricsWhileAway(),
		Log:      d.Log,
	})()
	pauses := retry.Policy{Min: storePauseMin, Max: storePauseMax}
	for n := 0; passing(err); n++ {
		select {
		case <-time.After(pauses.Pause(n)):
		case failed := <-d.failed: // the pod has failed for good
			return failed
		case <-ctx.Done():
			return fmt.Errorf("%w; the last error: %w", ctx.Err(), err)
		}
		if err = attempt(ctx, f); err == nil {
			d.Log.Info("the store can be reached", "waited", time.Since(begin).String())
		}
	}
	return err
}

func attempt(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return f(ctx)
}
