//go:build foundationdb

package foundationdb

import (
	"context"
	"sync"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
)

// view is a read version and a handle that reads at it, shared by all who asked at the same time.
type view struct {
	tr      fdb.Transaction
	version uint64
	// asked is when the question for the version began, or when the commit became known that made it.
	asked time.Time
}

// versions asks for read versions, one at a time: who comes while one is being asked for shares the next one, for the
// one under way may have been fixed before a commit that he must see. Thus the load on the client library does not
// grow with the readers.
type versions struct {
	mu     sync.Mutex
	asking bool
	next   *question
	last   *view // the newest one, of those that are handed out
	idle   sync.WaitGroup
}

// question is a read version to be asked for, and then the answer.
type question struct {
	done chan struct{}
	view *view
	err  error
}

// view returns a view whose version was asked for after the call began.
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

// ask asks for read versions as long as somebody wants one.
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

// wait returns when no version is being asked for. New ones must no longer be wanted.
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

// RecentSnapshot implements engine.RecentSnapshotter: at the newest version that this store has been told, be it that
// of another view or of a commit of its own, if that became known no longer than Options.RecentAge ago. Then it asks
// the cluster for nothing.
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

// recentView returns the newest view, or one at the version of a commit that is newer; nil if that is too old.
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
