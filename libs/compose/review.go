package compose

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// follow keeps the copy of the table up to date until ctx ends. It closes keyspaces that are idle, have been deleted,
// or have other settings by now, and opens those whose leases expire.
func (s *keyspaces) follow(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = s.table.Run(ctx) })
	if !s.d.Kind.IsPod() { // on pods the compactor does it
		wg.Go(func() {
			_ = keyspace.Tend(ctx, s.d.Engine, s.root(), s.d.cleared, func(err error) {
				s.d.Log.Warn("deleted keyspaces could not be cleared, will be tried again", "error", err)
			})
		})
	}
	if s.table.Ready(ctx) != nil {
		return nil
	}
	if !s.d.Kind.IsPod() {
		wg.Go(func() { s.openParked(ctx, s.parking) })
		wg.Go(func() { s.findWork(ctx); s.own.run(ctx, s) })
	}
	ticker := time.NewTicker(s.reviewEvery())
	defer ticker.Stop()
	for {
		changed := s.table.Changed() // before the review, so that a change in between causes another review
		s.review(ctx)
		if s.d.Kind.IsPod() && s.table.Shared() {
			s.work(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-ticker.C:
		}
	}
}

// reviewEvery returns the time between two searches for idle keyspaces.
func (s *keyspaces) reviewEvery() time.Duration {
	if s.d.Config.KeyspaceIdle <= 0 {
		return reviewMax
	}
	return min(max(s.d.Config.KeyspaceIdle/4, reviewMin), reviewMax)
}

// review ends the keyspaces that must not be open any more. It reads the store, so calls do not wait for it.
func (s *keyspaces) review(ctx context.Context) {
	if err := s.readDoor(ctx); err != nil && ctx.Err() == nil {
		s.d.Log.Warn("who may enter the keyspace cannot be read, what was known stays", "keyspace", s.firstName(),
			"error", err)
	}
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.open))
	s.mu.Unlock()
	for _, o := range all {
		info, there := s.table.ByID(o.info.ID)
		switch {
		case !there && s.deleted(ctx, o.info.ID):
			s.end(o, errDeleted)
		case there && !proto.Equal(info.Row.GetLimits(), o.info.Row.GetLimits()),
			there && !keyspace.SameRule(info.Row.GetAccess(), o.info.Row.GetAccess()):
			s.end(o, errReopened)
		case there && info.Row.GetWeight() != o.info.Row.GetWeight():
			s.weigh(o, info.Row.GetWeight())
		case s.idle(o) && !o.k.busy():
			s.endIdle(o)
		}
	}
}

// deleted says whether a keyspace that the copy of the table does not have has been deleted. It may also be newer than
// the copy, or not fit into it. If the store cannot be read, deleted returns false.
func (s *keyspaces) deleted(ctx context.Context, id uint64) bool {
	gone, err := keyspace.Deleted(ctx, s.d.Engine, s.root(), id-1, 1)
	return err == nil && len(gone) > 0 && gone[0].ID == id
}

// idle says whether o is open and has had no calls for --keyspace-idle.
func (s *keyspaces) idle(o *occupied) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idleLocked(o)
}

func (s *keyspaces) idleLocked(o *occupied) bool {
	select {
	case <-o.ready:
	default:
		return false
	}
	idle := s.d.Config.KeyspaceIdle
	if o.brief {
		idle = min(idle, briefIdle)
	}
	return o.k != nil && o.calls == 0 && idle > 0 && s.now().Sub(o.unused) >= idle
}

// endBrief closes o if only the process itself has called it, and nobody does now.
func (s *keyspaces) endBrief(o *occupied) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.brief && o.calls == 0 {
		s.endLocked(o, errReopened)
	}
}

// endIdle closes o, unless a call has come in the meantime.
func (s *keyspaces) endIdle(o *occupied) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idleLocked(o) {
		s.endLocked(o, errReopened)
	}
}

// findWork finds, once, the keyspaces of the table in which something goes on without calls, by reading a few rows of
// each. It opens those with leases for a moment: the process claims the leases, and they get their full time from then
// on. It also opens those with something to remove. If one cannot be read, it goes on with the others.
func (s *keyspaces) findWork(ctx context.Context) {
	all, err := keyspace.List(ctx, s.d.Engine, s.root(), "", 0)
	if err != nil {
		s.workStays(ctx, "", err)
	}
	planner, _ := s.first.planner() // no error: the flags have been checked
	for _, info := range all {
		if info.Row.GetUnprefixed() || !info.Served() {
			continue
		}
		leased, err := mvcc.HasLeases(ctx, s.d.Engine, info.Prefix)
		if err != nil {
			s.workStays(ctx, info.Name, err)
			continue
		}
		p, err := mvcc.Peek(ctx, s.d.Engine, info.Prefix)
		if err != nil {
			s.workStays(ctx, info.Name, err)
		}
		if planner != nil {
			s.own.found(headOf{info.ID, p.Head, p.Compact})
		}
		if leased || p.Removed < p.Compact {
			s.parking.note(info.ID)
		}
	}
}

func (s *keyspaces) workStays(ctx context.Context, name string, err error) {
	if ctx.Err() == nil {
		s.d.Log.Error("until its next call, the leases of a keyspace do not expire, and nothing in it is compacted",
			"keyspace", name, "error", err)
	}
}
