package compose

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// failing is an engine whose next commits, or snapshots, fail with an error.
type failing struct {
	engine.Store

	mu    sync.Mutex
	err   error
	left  int // of commits and snapshots that fail
	tried int // commits and snapshots since fail was called
}

func (f *failing) fail(err error, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.left, f.tried = err, n, 0
}

// next is the error of one more commit or snapshot.
func (f *failing) next() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tried++
	if f.left--; f.left < 0 {
		return nil
	}
	return f.err
}

func (f *failing) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	if err := f.next(); err != nil {
		return nil, err
	}
	return f.Store.Snapshot(ctx)
}

func (f *failing) Begin(ctx context.Context) (engine.Txn, error) {
	t, err := f.Store.Begin(ctx)
	return failingTxn{t, f}, err
}

type failingTxn struct {
	engine.Txn
	f *failing
}

func (t failingTxn) Commit(ctx context.Context) (engine.Pending, error) {
	if err := t.f.next(); err != nil {
		return nil, err
	}
	return t.Txn.Commit(ctx)
}

var errOther = errors.New("an error of no class")

// errorOf is an error of each class.
var errorOf = map[engine.Class]error{
	engine.Ended:          context.DeadlineExceeded,
	engine.Closed:         engine.ErrClosed,
	engine.Damaged:        &engine.Damage{Err: errOther},
	engine.TooLarge:       engine.ErrTooLarge,
	engine.NoSpace:        engine.ErrNoSpace,
	engine.UnknownOutcome: engine.ErrUnknownOutcome,
	engine.Unavailable:    engine.ErrUnavailable,
	engine.Conflict:       engine.ErrConflict,
	engine.TooOld:         engine.ErrTooOld,
	engine.Other:          errOther,
}

// TestClasses walks the classes of errors and those who call the store: which errors each tries again after, and which
// ends it, with what. What is not in a caller's list of classes that it tries again after ends the call at once.
func TestClasses(t *testing.T) {
	type open struct {
		e     *failing
		store *mvcc.Store
	}
	again := func(c ...engine.Class) map[engine.Class]bool {
		m := map[engine.Class]bool{}
		for _, class := range c {
			m[class] = true
		}
		return m
	}
	idempotent := again(engine.Conflict, engine.TooOld, engine.UnknownOutcome)
	passes := again(engine.Conflict, engine.TooOld, engine.UnknownOutcome, engine.Unavailable)
	all := again(engine.Ended, engine.NoSpace, engine.UnknownOutcome, engine.Unavailable, engine.Conflict,
		engine.TooOld, engine.Other, engine.Damaged)
	for name, caller := range map[string]struct {
		again map[engine.Class]bool
		call  func(ctx context.Context, o *open) error
	}{
		// The lane's own transaction: an outcome that is not known before anything has been sent says nothing new.
		"put": {again(engine.Conflict, engine.TooOld, engine.Unavailable), func(ctx context.Context, o *open) error {
			_, err := o.store.Put(ctx, &mvcc.PutRequest{Key: []byte("k")})
			return err
		}},
		"compaction": {again(engine.Conflict, engine.TooOld, engine.Unavailable, engine.NoSpace), func(ctx context.Context, o *open) error {
			_, err := o.store.Compact(ctx, 2<<5, false)
			return err
		}},
		"claim of leases": {passes, func(ctx context.Context, o *open) error {
			_, err := o.store.ClaimLeases(ctx, 1)
			return err
		}},
		"range": {again(engine.TooOld), func(ctx context.Context, o *open) error {
			_, err := o.store.Range(ctx, &mvcc.RangeRequest{Key: []byte("k")}, func(*mvcc.KV) error { return nil })
			return err
		}},
		"head": {nil, func(ctx context.Context, o *open) error {
			_, err := o.store.Head(ctx)
			return err
		}},
		"open a keyspace": {idempotent, func(ctx context.Context, o *open) error {
			_, err := keyspace.Open(ctx, o.e, []byte("root/"), "name")
			return err
		}},
		"create rows": {idempotent, func(ctx context.Context, o *open) error {
			s, err := mvcc.Open(ctx, o.e, mvcc.Options{Prefix: []byte("new/")})
			if err == nil {
				err = s.Close()
			}
			return err
		}},
		// A candidate waits for whatever is not for good.
		"campaign": {all, func(ctx context.Context, o *open) error {
			c, err := election.New(o.e, election.Options{Key: []byte("e/"), Holder: "h"})
			if err != nil {
				return err
			}
			won := errors.New("won")
			if err = c.Run(ctx, func(context.Context, *election.Term) error { return won }); errors.Is(err, won) {
				return nil
			}
			return err
		}},
		"start of a pod": {
			again(engine.Conflict, engine.TooOld, engine.UnknownOutcome, engine.Unavailable, engine.Ended),
			func(ctx context.Context, o *open) error {
				// As AwaitStore does, which answers on a listener.
				for {
					snap, err := o.e.Snapshot(ctx)
					if err == nil {
						snap.Close()
						return nil
					}
					if !passing(err) {
						return err
					}
				}
			},
		},
	} {
		for class := engine.Ended; class <= engine.Other; class++ {
			t.Run(fmt.Sprint(name, "/", class), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := &open{e: &failing{Store: testengine.KeepOpen(testengine.OpenInBubble(t, 0))}}
					var err error
					if o.store, err = mvcc.Open(t.Context(), o.e,
						mvcc.Options{Prefix: []byte("d/"), NoRemoval: true}); err != nil {
						t.Fatal(err)
					}
					defer o.store.Close()
					if _, err := o.store.Put(t.Context(), &mvcc.PutRequest{Key: []byte("a")}); err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					synctest.Wait() // what the store does by itself waits
					o.e.fail(errorOf[class], 1)
					err = caller.call(ctx, o)
					switch {
					case caller.again[class] && err != nil:
						t.Errorf("not tried again: %v", err)
					case !caller.again[class] && err == nil:
						t.Errorf("tried again")
					}
				})
			})
		}
	}
}
