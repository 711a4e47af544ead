package compose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/alarm"
	"github.com/headwaterdb/headwater/libs/server"
)

// Times of the check that a pod reaches its store.
const (
	storeCheckEvery   = time.Second
	storeCheckTimeout = 3 * time.Second
	// storeFailuresMax is how many checks in a row must fail before the pod is not ready any more.
	storeFailuresMax = 3
)

// readiness is the answer of health checks.
type readiness struct {
	mu       sync.Mutex
	grpc     *server.GRPC // nil: not made yet
	ready    bool         // of the kind's own parts
	reason   string       // why not
	store    error        // why the store cannot be reached; nil: it can
	failed   error        // why the pod can no longer serve; for good
	draining bool         // for good
	changed  bell         // rung when the answer may have changed
}

func (r *readiness) set(ready bool, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready, r.reason = ready, reason
	r.tell()
}

func (r *readiness) setStore(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store = err
	r.tell()
}

func (r *readiness) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = err
	}
	r.tell()
}

func (r *readiness) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	r.tell()
}

// tell reports readiness to gRPC's health service. The caller holds mu.
func (r *readiness) tell() {
	if r.grpc != nil {
		r.grpc.SetServing(r.err() == nil)
	}
	r.changed.signal()
}

// err returns why the pod is not ready. The caller holds mu.
func (r *readiness) err() error {
	switch {
	case r.draining:
		return errors.New("the pod is stopping")
	case r.failed != nil:
		return r.failed
	case r.store != nil:
		return r.store
	case r.ready:
		return nil
	case r.reason == "":
		return errors.New("starting")
	}
	return errors.New(r.reason)
}

// away says whether the store cannot be reached, or has failed.
func (r *readiness) away() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.store != nil || r.failed != nil
}

// check is the check of /readyz.
func (r *readiness) check(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err()
}

// checkStore turns readiness off while this pod cannot reach the store, so that routers choose other pods. It reads the
// alarms, which other pods set and clear too.
func (k *Keyspace) checkStore(ctx context.Context) error {
	c := storeCheck{read: k.readAlarms, tell: k.d.ready.setStore, log: k.d.Log}
	for k.d.pulse.Wait(ctx, storeCheckEvery) == nil {
		c.once(ctx)
	}
	return nil
}

// readAlarms reads the alarms again. It returns an error only if the store cannot be reached, or a later release has
// activated what this one does not know.
func (k *Keyspace) readAlarms(ctx context.Context) error {
	read, err := k.Alarms.TryRefresh(ctx)
	switch {
	case !read: // an alarm is being set, which may wait for the store
		_, err = k.Store.Head(ctx)
	case errors.Is(err, alarm.ErrRow):
		k.d.Log.Warn("the alarms cannot be read", "error", err)
		return nil
	}
	return err
}

// storeCheck reports when the store cannot be reached, and when it can again.
type storeCheck struct {
	read     func(context.Context) error
	tell     func(error)
	log      *slog.Logger
	failures int // in a row
}

func (c *storeCheck) once(ctx context.Context) {
	attempt, cancel := context.WithTimeout(ctx, storeCheckTimeout)
	defer cancel()
	err := c.read(attempt)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		if c.failures >= storeFailuresMax {
			c.log.Info("the store can be reached again")
			c.tell(nil)
		}
		c.failures = 0
	default:
		if c.failures++; c.failures == storeFailuresMax {
			c.log.Warn("the store cannot be reached", "error", err)
			c.tell(fmt.Errorf("the store cannot be reached: %w", err))
		}
	}
}
