package pebble

import (
	"sync"
	"sync/atomic"

	pdb "github.com/cockroachdb/pebble/v2"
)

// view is the state of the store after one commit: a Pebble snapshot shared by all who read at it. It is closed when
// the last reference is dropped.
type view struct {
	s      *Store
	snap   *pdb.Snapshot
	commit *commit // the last commit that it shows
	refs   atomic.Int64
	closed atomic.Bool // Pebble has released it

	gets atomic.Int64 // lookups of single rows so far, up to getsBeforeIter

	mu   sync.Mutex
	idle []*iter // for the next reads
}

// newView returns the view of the state after c, with one reference.
func newView(s *Store, snap *pdb.Snapshot, c *commit) *view {
	v := &view{s: s, snap: snap, commit: c}
	v.refs.Store(1)
	return v
}

// tryRef adds a reference unless the view is closed or closing.
func (v *view) tryRef() bool {
	for {
		n := v.refs.Load()
		if n == 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (v *view) unref() {
	if v.refs.Add(-1) > 0 {
		return
	}
	if v.s.failure.Load() != nil {
		return // a failed Pebble may hold its locks forever; the process is about to end
	}
	_ = v.s.run(func() error { // the store may fail meanwhile
		v.dropIdle()
		err := v.snap.Close()
		v.closed.Store(true)
		return err
	})
}

// iter is a Pebble iterator at a view, with the shape of the LSM tree it was opened on.
type iter struct {
	*pdb.Iterator
	shape uint64
}

// find looks up a row. The value is valid until the iterator's next use.
func (it *iter) find(row []byte) (v []byte, found bool, err error) {
	if !it.SeekPrefixGE(row) {
		return nil, false, it.Error()
	}
	v, err = it.ValueAndErr()
	return v, err == nil, err
}

// newIter returns an iterator for the rows of sp: an idle one if there is one.
func (v *view) newIter(sp span) (*iter, error) {
	if it := v.takeIdle(sp); it != nil {
		return it, nil
	}
	shape := v.s.shape.Load()
	p, err := v.snap.NewIter(&pdb.IterOptions{LowerBound: sp.begin, UpperBound: sp.end})
	if err != nil {
		return nil, err
	}
	return &iter{Iterator: p, shape: shape}, nil
}

// getIter returns an iterator for the lookup of one row, or nil if a plain lookup is cheaper. To open an iterator is
// worthwhile if the view is read often.
func (v *view) getIter() (*iter, error) {
	if it := v.takeIdle(userSpan); it != nil {
		return it, nil
	}
	if v.gets.Load() < getsBeforeIter {
		v.gets.Add(1)
		return nil, nil
	}
	return v.newIter(userSpan)
}

// takeIdle returns an idle iterator, or nil.
func (v *view) takeIdle(sp span) *iter {
	v.mu.Lock()
	n := len(v.idle)
	if n == 0 {
		v.mu.Unlock()
		return nil
	}
	it := v.idle[n-1]
	v.idle[n-1] = nil
	v.idle = v.idle[:n-1]
	v.mu.Unlock()
	it.SetBounds(sp.begin, sp.end)
	return it
}

// putIter takes an iterator back. It closes one that has failed, or that was opened before the last flush or
// compaction, because it would keep the replaced files on disk.
func (v *view) putIter(it *iter) {
	if it.Error() == nil && it.shape == v.s.shape.Load() {
		v.mu.Lock()
		if len(v.idle) < idleIteratorsMax && v.refs.Load() > 0 {
			v.idle = append(v.idle, it)
			v.mu.Unlock()
			return
		}
		v.mu.Unlock()
	}
	_ = it.Close()
}

// dropIdle closes the idle iterators, so that they do not keep obsolete files.
func (v *view) dropIdle() {
	v.mu.Lock()
	idle := v.idle
	v.idle = nil
	v.mu.Unlock()
	for _, it := range idle {
		_ = it.Close()
	}
}
