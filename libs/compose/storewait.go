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

// Limits of the waiting for a store that cannot be reached while a pod starts. The waiting itself has none but the
// start's context: what starts the pod anew would find the store no sooner.
const (
	// storeTimeout bounds an attempt: a commit to an engine that is not there would wait for ever.
	storeTimeout = 10 * time.Second
	// storePauseMin and storePauseMax bound the pause between attempts, which doubles.
	storePauseMin = 100 * time.Millisecond
	storePauseMax = 2 * time.Second
)

// passing tells errors that may pass by themselves.
func passing(err error) bool {
	return engine.ClassOf(err).Passes() || errors.Is(err, mvcc.ErrUnavailable) ||
		errors.Is(err, context.DeadlineExceeded)
}

// AwaitStore runs f, which reads or writes the store while the pod starts, until it succeeds, or fails for a reason
// that does not pass by itself, or ctx ends. Until then nobody is served: clients get Unavailable, and health checks
// say that the pod lives and is not ready. It must not be called after Serve. f may run several times.
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
		case failed := <-d.failed: // for good, whatever the attempts say
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
