package pebble

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
)

// watches are the calls of WaitChange that are under way, by row.
type watches struct {
	n    atomic.Int64 // rows watched: while it is 0 commits need not look further
	mu   sync.Mutex
	rows map[string]*watch
}

// watch is shared by the waiters for one row. ch is closed at the row's next change.
type watch struct {
	ch      chan struct{}
	waiters int
}

func (w *watches) init() { w.rows = make(map[string]*watch) }

func (w *watches) add(row string) *watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.rows[row]
	if e == nil {
		e = &watch{ch: make(chan struct{})}
		w.rows[row] = e
		w.n.Add(1)
	}
	e.waiters++
	return e
}

func (w *watches) remove(row string, e *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.waiters--; e.waiters == 0 && w.rows[row] == e {
		delete(w.rows, row)
		w.n.Add(-1)
	}
}

// fire wakes the waiters for a row. w.mu is held.
func (w *watches) fire(row string, e *watch) {
	close(e.ch)
	delete(w.rows, row)
	w.n.Add(-1)
}

func (w *watches) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for row, e := range w.rows {
		w.fire(row, e)
	}
}

// changed wakes the waiters for the rows that a batch writes. w.mu is held.
func (w *watches) changed(repr []byte) {
	for r := batchrepr.Read(repr); len(w.rows) > 0; {
		kind, key, end, ok, err := r.Next()
		if !ok || err != nil {
			return
		}
		if kind != pdb.InternalKeyKindRangeDelete {
			if e := w.rows[string(key)]; e != nil {
				w.fire(string(key), e)
			}
			continue
		}
		for row, e := range w.rows {
			if bytes.Compare(key, []byte(row)) <= 0 && row < string(end) {
				w.fire(row, e)
			}
		}
	}
}

// wake wakes the waiters for rows of commits that have become durable.
func (s *Store) wake(ready []*commit) {
	if s.watches.n.Load() == 0 {
		return
	}
	s.watches.mu.Lock()
	defer s.watches.mu.Unlock()
	for _, c := range ready {
		s.watches.changed(c.repr)
	}
}

// WaitChange implements engine.Store.
func (s *Store) WaitChange(ctx context.Context, key, old []byte) error {
	row := string(append([]byte{userPrefix}, key...))
	e := s.watches.add(row)
	defer s.watches.remove(row, e)
	// Register first, then read: a change after the read finds the registration.
	snap, err := s.Snapshot(ctx)
	if err != nil {
		return err
	}
	now, err := snap.Get(ctx, key)
	same := (now == nil) == (old == nil) && bytes.Equal(now, old)
	snap.Close()
	if err != nil || !same {
		return err
	}
	select {
	case <-e.ch:
		return s.err()
	case <-s.stop:
		return s.err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
