package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// readers is how many ask for the same state in these tests.
const readers = 50

// headRow is the key of the head of a keyspace without a prefix.
const headRow = "d"

// readTogether reads n keys at once, each with its own context, and returns the answers.
func readTogether(s *mvcc.Store, a *mvcc.Access, ctxs []context.Context) (revs []int64, errs []error) {
	revs, errs = make([]int64, len(ctxs)), make([]error, len(ctxs))
	var wg sync.WaitGroup
	for i, ctx := range ctxs {
		wg.Go(func() {
			req := &mvcc.RangeRequest{Key: fmt.Appendf(nil, "k%d", i), Access: a}
			info, err := s.Range(ctx, req, func(kv *mvcc.KV) error {
				if string(kv.Key) != string(req.Key) || string(kv.Value) != fmt.Sprint("v", i) {
					return fmt.Errorf("%s has %s", kv.Key, kv.Value)
				}
				return nil
			})
			if err == nil && info.Count != 1 {
				err = fmt.Errorf("%d keys", info.Count)
			}
			revs[i], errs[i] = info.Rev, err
		})
	}
	wg.Wait()
	return revs, errs
}

// farReaders is a store over a network with a key for each reader, and the head of a state that it has not read yet.
func farReaders(t *testing.T, o faults.Options) (e *faults.Store, s, other *mvcc.Store, head int64) {
	t.Helper()
	inner := openPebble(t, pebble.Options{FDBLimits: true, Sparse: true, NotPipelined: true, Seed: 1})
	o.Remote = &faults.Remote{Latency: faults.Reads(faults.Delay{Fixed: trip})}
	e = faults.New(inner, o)
	s, other = open(t, e, mvcc.Options{NoRemoval: true}), open(t, inner, mvcc.Options{NoRemoval: true})
	for i := range readers {
		head = put(t, other, fmt.Sprint("k", i), fmt.Sprint("v", i))
	}
	time.Sleep(10 * trip) // until what follows an opening has been read
	return e, s, other, head
}

func contexts(t *testing.T, n int) []context.Context {
	ctxs := make([]context.Context, n)
	for i := range ctxs {
		ctxs[i] = t.Context()
	}
	return ctxs
}

// TestStateIsReadOnce: those who read the same state ask for its head, and for the number of users and roles, once
// together, each of them for its key, and are refused if that number is not theirs.
func TestStateIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, s, other, head := farReaders(t, faults.Options{})
		want := func(rows int64, a *mvcc.Access, wantErr error) {
			t.Helper()
			before := e.Trips()
			revs, errs := readTogether(s, a, contexts(t, readers))
			for i, err := range errs {
				if !errors.Is(err, wantErr) || err == nil && revs[i] != head {
					t.Errorf("reader %d: head %d, %v, want %d, %v", i, revs[i], err, head, wantErr)
				}
			}
			if got := e.Trips().Since(before); got.Total()-got[faults.TripVersion] != rows {
				t.Errorf("%d readers: %v, want %d besides the versions", readers, got, rows)
			}
		}
		old := &mvcc.Access{Number: s.AuthNumber()}
		want(readers+1, old, nil)
		want(readers, old, nil) // the same state again
		head = put(t, other, "k0", "v0")
		want(readers+1, nil, nil)
		number := bump(t, other, mvcc.AuthRow{Key: []byte("rr"), Value: []byte{}})
		if _, err := s.Head(t.Context()); err != nil { // from now on it knows that there are users
			t.Fatal(err)
		}
		head = put(t, other, "k0", "v0")
		want(readers+2, &mvcc.Access{Number: number}, nil)
		want(readers, old, mvcc.ErrAuthOld)
	})
}

// TestStateReadFails: whoever reads the head for others may go away or fail. The others are answered.
func TestStateReadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		_, s, other, head := farReaders(t, faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
			if c.Op == faults.Scan && string(c.Key) == headRow && fails.CompareAndSwap(true, false) {
				return faults.Unavailable, true
			}
			return faults.None, true
		}})
		fails.Store(true)
		failed := 0
		revs, errs := readTogether(s, nil, contexts(t, readers))
		for i, err := range errs {
			switch {
			case errors.Is(err, mvcc.ErrUnavailable):
				failed++
			case err != nil || revs[i] != head:
				t.Errorf("reader %d: head %d, %v", i, revs[i], err)
			}
		}
		if failed != 1 || fails.Load() {
			t.Errorf("%d failed, want the one whose read did", failed)
		}

		// The first has asked for the head, and the others wait for its answer, when its client goes away.
		head = put(t, other, "k0", "v0")
		first, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := s.Range(first, &mvcc.RangeRequest{Key: []byte("k0")}, func(*mvcc.KV) error { return nil })
			gone <- err
		}()
		synctest.Wait()
		go func() {
			time.Sleep(trip / 2)
			cancel()
		}()
		revs, errs = readTogether(s, nil, contexts(t, readers))
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("whose client has gone away: %v", err)
		}
		for i, err := range errs {
			if err != nil || revs[i] != head {
				t.Errorf("reader %d: head %d, %v, want %d", i, revs[i], err, head)
			}
		}
	})
}
