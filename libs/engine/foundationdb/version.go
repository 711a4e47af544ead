//go:build foundationdb

package foundationdb

import (
	"context"
	"sync"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
)

// view is a read version and a handle that reads at it. All callers who asked at the same time share it.
type view struct {
	tr      fdb.Transaction
	version uint64
	// asked is when the request for the version began, or when the commit that made the version became known.
	asked time.Time
}

// versions requests read versions, one at a time. A caller that comes during a request shares the next one, because the
// version of the present one may have been fixed before a commit that the caller must see. So the load on the client
// library does not grow with the number of readers.
type versions struct {
	mu     sync.Mutex
	asking bool
	next   *question
	last   *view // the newest one, of those that are handed out
	idle   sync.WaitGroup
}

// question is a request for a read version, and later its answer.
type question struct {
	done chan struct{}
	view *view
	err  error
}

// view returns a view whose version was requested after the call began.
func (s *Store) view(ctx context.Context) (*view, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	v := &s.versions
	v.mu.Lock()
	q := v.next
	if q == nil {
		q = &question{done: make(chan struct{})}
		v.next = q
	}
	if !v.asking {
		v.asking = true
		v.idle.Go(s.ask)
	}
	v.mu.Unlock()
	select {
	case <-q.done:
		return q.view, q.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask requests read versions as long as a caller wants one.
func (s *Store) ask() {
	v := &s.versions
	for {
		v.mu.Lock()
		q := v.next
		v.next = nil
		if q == nil {
			v.asking = false
			v.mu.Unlock()
			return
		}
		v.mu.Unlock()
		if q.view, q.err = s.newView(); q.err == nil {
			v.offer(q.view)
		}
		close(q.done)
	}
}

func (s *Store) newView() (*view, error) {
	tr, err := s.newTransaction()
	if err != nil {
		return nil, err
	}
	asked := time.Now()
	f := tr.GetReadVersion()
	g := watchOver(s.ctx, s.o.Timeout, f.Cancel)
	version, err := f.Get()
	g.release()
	if err != nil {
		return nil, s.readErr(context.Background(), err)
	}
	return &view{tr: tr, version: uint64(version), asked: asked}, nil
}

// offer makes w the newest view, unless there is a newer one.
func (v *versions) offer(w *view) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last == nil || v.last.version <= w.version {
		v.last = w
	}
}

// newest returns the newest view; nil: none.
func (v *versions) newest() *view {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

// wait returns when no version is being requested. No caller may want a new one.
func (v *versions) wait() { v.idle.Wait() }

// Snapshot implements engine.Store.
func (s *Store) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	return &snapshot{reader{s: s, tr: v.tr, version: v.version, noConflict: true}}, nil
}

var _ engine.RecentSnapshotter = (*Store)(nil)

// RecentSnapshot implements engine.RecentSnapshotter. It reads at the newest version that this store knows, of another
// view or of its own commit, if that became known at most Options.RecentAge ago. It then asks the cluster for nothing.
func (s *Store) RecentSnapshot(ctx context.Context) (engine.Snapshot, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	v, err := s.recentView()
	if err != nil {
		return nil, err
	}
	if v == nil {
		return s.Snapshot(ctx)
	}
	return &snapshot{reader{s: s, tr: v.tr, version: v.version, noConflict: true}}, nil
}

// recentView returns the newest view, or one at the version of a newer commit; nil if it is too old.
func (s *Store) recentView() (*view, error) {
	v := s.versions.newest()
	version, known := s.newest.last()
	if v == nil || v.version < version {
		if time.Since(known) > s.o.RecentAge {
			return nil, nil
		}
		tr, err := s.newTransaction()
		if err != nil {
			return nil, err
		}
		tr.SetReadVersion(int64(version))
		v = &view{tr: tr, version: version, asked: known}
		s.versions.offer(v)
	}
	if time.Since(v.asked) > s.o.RecentAge {
		return nil, nil
	}
	return v, nil
}
