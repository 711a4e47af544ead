//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// recentAge is how old the newest state that a pod knows may be, so that it is used again: as the engine on
// FoundationDB has it.
const recentAge = 250 * time.Millisecond

var _ engine.RecentSnapshotter = (*lateStore)(nil)

// Snapshot implements engine.Store.
func (s *lateStore) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	return again{s.newest}, nil
}

// RecentSnapshot implements engine.RecentSnapshotter: it is of the newest state that the pod has read or made, unless
// that is old.
func (s *lateStore) RecentSnapshot(ctx context.Context) (engine.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest != nil && time.Since(s.at) <= recentAge {
		return again{s.newest}, ctx.Err()
	}
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	return again{s.newest}, nil
}

// read makes the state of now the newest. s.mu is held.
func (s *lateStore) read(ctx context.Context) error {
	snap, err := s.shared.Snapshot(ctx)
	if err == nil {
		s.newest, s.at = snap, time.Now()
	}
	return err
}

// renew is called when the pod has begun a transaction, or has learned that one was committed: what it is offered from
// now on lacks nothing of that.
func (s *lateStore) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.read(context.Background()) // the database is never closed
}

// again is a state that is read by several.
type again struct{ engine.Snapshot }

// Close implements engine.Snapshot.
func (again) Close() {}
