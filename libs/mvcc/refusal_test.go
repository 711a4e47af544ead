package mvcc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// openFDBLike opens an engine in memory with FoundationDB's limits, without recent states, whatever tests run on.
func openFDBLike(t testing.TB) engine.Store {
	t.Helper()
	o := fdb
	o.FS, o.ReserveBytes, o.BallastBytes = vfs.NewMem(), -1, -1
	e, err := pebble.Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// TestLateTooLarge: a transaction that the store finds too large only when it is sent costs its group the splits that
// part it from the others, and nothing more; it is told so, and they are carried out.
func TestLateTooLarge(t *testing.T) {
	const others, txnBytes = 7, 20_000
	for large := range others + 1 { // its place in the group
		t.Run(fmt.Sprint(large), func(t *testing.T) {
			var commits atomic.Int64
			var counting atomic.Bool
			entered, release := make(chan struct{}), make(chan struct{})
			e := faults.New(openFDBLike(t), faults.Options{
				Remote: &faults.Remote{TxnBytes: txnBytes},
				Delay: func(_ context.Context, op faults.Op) {
					if op == faults.Begin && counting.CompareAndSwap(false, true) {
						close(entered)
						<-release
					}
					if op == faults.Commit && counting.Load() {
						commits.Add(1)
					}
				},
			})
			counting.Store(true)
			s := open(t, e, mvcc.Options{Shift: 5})
			counting.Store(false)
			commits.Store(0)
			var wg sync.WaitGroup
			wg.Go(func() { put(t, s, "gate", "") })
			<-entered
			for i := range others + 1 {
				wg.Go(func() {
					if i != large {
						put(t, s, fmt.Sprint("other", i), "fine")
						return
					}
					_, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("large"), Value: make([]byte, txnBytes)})
					if !errors.Is(err, mvcc.ErrTooLarge) || errors.Is(err, mvcc.ErrUnavailable) {
						t.Errorf("the large one: %v", err)
					}
				})
				waitFor(t, func() bool { return s.Waiting() == i+1 })
			}
			close(release)
			wg.Wait()
			// The gate's; of the group's 8, 4, 2 and 1 requests those that hold the large one; the other halves.
			if n := commits.Load(); n != 1+4+3 {
				t.Errorf("%d commits", n)
			}
			if kvs := everything(t, s); len(kvs) != others+1 {
				t.Errorf("%d keys", len(kvs))
			}
		})
	}
}

// late is an engine whose next commit ends with an error of Wait that nothing has come before.
type late struct {
	engine.Store
	err     atomic.Pointer[error]
	commits atomic.Int64
}

func (l *late) Begin(ctx context.Context) (engine.Txn, error) {
	txn, err := l.Store.Begin(ctx)
	return lateTxn{txn, l}, err
}

type lateTxn struct {
	engine.Txn
	l *late
}

func (x lateTxn) Commit(ctx context.Context) (engine.Pending, error) {
	err := x.l.err.Load()
	if err == nil {
		return x.Txn.Commit(ctx)
	}
	x.l.commits.Add(1)
	x.Discard()
	return lateError{*err}, nil
}

type lateError struct{ error }

func (e lateError) Wait(context.Context) (engine.Stamp, error) { return engine.Stamp{}, e.error }

// TestLateRefusals: each error of Wait that says no is the answer of a single request, after one commit.
func TestLateRefusals(t *testing.T) {
	odd := errors.New("a call was wrong")
	for _, test := range []struct{ late, want error }{
		{fmt.Errorf("somewhere: %w", engine.ErrTooLarge), mvcc.ErrTooLarge},
		{fmt.Errorf("somewhere: %w", engine.ErrNoSpace), mvcc.ErrNoSpace},
		{odd, odd}, // of no class
	} {
		l := &late{Store: openFDBLike(t)}
		s := open(t, l, mvcc.Options{Shift: 5})
		put(t, s, "a", "before")
		l.err.Store(&test.late)
		_, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("a"), Value: []byte("refused")})
		if !errors.Is(err, test.want) || errors.Is(err, mvcc.ErrUnavailable) || l.commits.Load() != 1 {
			t.Errorf("%v: answered %v after %d commits", test.late, err, l.commits.Load())
		}
		l.err.Store(nil)
		if kvs := everything(t, s); len(kvs) != 1 || !bytes.Equal(kvs[0].Value, []byte("before")) {
			t.Errorf("%v: %v", test.late, kvs)
		}
		put(t, s, "a", "after")
	}
}
