package lease

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Bounds of the pauses after failures. A lease that could not be revoked waits by itself (retryMin, doubled up to
// retryMax), so that it delays no other lease. While no revoke succeeds, the whole loop pauses (pauseMin, doubled up to
// pauseMax), so that a hundred thousand expired leases do not overload a store in trouble.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 3 * time.Second // etcd's interval (lessor.go: defaultExpiredleaseRetryInterval)
	pauseMin = 10 * time.Millisecond
	pauseMax = time.Second
	// damagedRetry is the wait of a lease whose rows or keys are damaged, and of a start that cannot read the leases.
	// Each waits by itself: the damage says nothing about other leases.
	damagedRetry = time.Minute
)

// ofLease and ofAll are those pauses.
var (
	ofLease = retry.Policy{Min: retryMin, Max: retryMax}
	ofAll   = retry.Policy{Min: pauseMin, Max: pauseMax}
)

// expire revokes expired leases and finishes the operations that were handed to it, until ctx ends or the fence is
// void.
func (k *Keeper) expire(ctx context.Context, fence mvcc.Fence) error {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &worker{keeper: k, fence: fence, cancel: cancel}
	var (
		running sync.WaitGroup
		slots   = make(chan struct{}, k.opt.Revokes)
		timer   = time.NewTimer(idleMax)
	)
	defer running.Wait()
	defer cancel(nil)
	defer timer.Stop()
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		now := k.now()
		next := w.paused()
		if next <= now {
			var e *entry
			if e, next = k.table.expire(now); e != nil {
				running.Go(func() {
					w.do(ctx, e)
					<-slots
				})
				continue
			}
		}
		<-slots
		timer.Reset(min(time.Duration(next-now), idleMax))
		select {
		case <-timer.C:
		case <-k.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// worker runs tasks of the expiry loop. Several run at a time.
type worker struct {
	keeper *Keeper
	fence  mvcc.Fence
	cancel context.CancelCauseFunc // ends the loop, with the reason

	mu       sync.Mutex
	failures int     // since the last success
	until    instant // when the pause ends
}

// do carries out the task of e, whose latch it holds. Afterwards the latch is released, or handed back for later.
func (w *worker) do(ctx context.Context, e *entry) {
	k := w.keeper
	var err error
	switch e.task {
	case revokeTask:
		if err = w.revoke(ctx, e); err == nil {
			k.table.release(e, gone)
		}
	case grantTask:
		if err = w.grant(ctx, e); err == nil {
			k.nudge(k.table.release(e, after(k.now(), e.ttl)))
		} else if refused(err) && !errors.Is(err, mvcc.ErrFenced) {
			k.table.release(e, gone)
			err = nil
		}
	}
	switch {
	case err == nil:
		w.succeeded()
	case errors.Is(err, mvcc.ErrFenced):
		w.cancel(ErrNotOwner)
	case errors.Is(err, mvcc.ErrCorrupt):
		w.shelve(e, err)
	case ctx.Err() == nil:
		w.failed(e, err)
	}
}

// revoke revokes a lease as the owner. It is done when it succeeds and when the lease is gone already.
func (w *worker) revoke(ctx context.Context, e *entry) error {
	_, err := w.keeper.revoke(ctx, e, &w.fence)
	if errors.Is(err, mvcc.ErrLeaseNotFound) {
		return nil
	}
	if err == nil {
		w.keeper.count.revokedTotal.Add(1)
		w.keeper.count.expiredTotal.Add(1)
	}
	return err
}

// grant grants a lease whose first grant has an unknown outcome. Its task is done whether the lease exists or is made.
func (w *worker) grant(ctx context.Context, e *entry) error {
	_, err := w.keeper.store.LeaseGrant(ctx, e.id, e.ttl, &w.fence)
	if errors.Is(err, mvcc.ErrLeaseExists) {
		return nil
	}
	return err
}

// paused returns the end of the pause in which nothing is tried.
func (w *worker) paused() instant {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.until
}

func (w *worker) succeeded() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failures > 0 {
		w.keeper.opt.Logger.Info("lease expiry continues", "failures", w.failures)
	}
	w.failures, w.until = 0, 0
}

// shelve puts aside an expired lease that cannot be revoked because of damaged data. The lease is neither valid nor
// being revoked, so nobody waits for it.
func (w *worker) shelve(e *entry, err error) {
	k := w.keeper
	k.count.retriesTotal.Add(1)
	first, again := k.table.shelve(e, k.now()+int64(damagedRetry))
	k.nudge(first)
	if !again {
		k.opt.Logger.Error("an expired lease cannot be revoked", "lease", e.id, "error", err, "retry", damagedRetry)
	}
}

// failed hands e back to be tried again, and pauses the loop. Failures of calls that were in flight together count once
// towards the length of the pause. Only the first of several failures in a row is logged.
func (w *worker) failed(e *entry, err error) {
	k := w.keeper
	k.count.retriesTotal.Add(1)
	now := k.now()
	attempts := int(e.attempts) // under the latch
	if attempts == 0 && errors.Is(err, mvcc.ErrTooLarge) {
		k.opt.Logger.Error("an expired lease cannot be revoked", "lease", e.id, "error", err)
	}
	k.nudge(k.table.hand(e, e.task, now+int64(ofLease.Pause(attempts))))

	w.mu.Lock()
	defer w.mu.Unlock()
	if w.until > now {
		return
	}
	if w.failures == 0 {
		k.opt.Logger.Warn("lease expiry is delayed", "lease", e.id, "error", err)
	}
	w.until = now + int64(ofAll.Pause(w.failures))
	w.failures++
}
