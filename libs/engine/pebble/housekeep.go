package pebble

import (
	"bytes"
	"context"
	"slices"
	"time"
)

// What is done about cleared rows on a full disk.
const (
	// reclaimEvery is the time between two passes over the store, at least; a pass that took longer doubles it.
	reclaimEvery = 5 * time.Second
	// reclaimBytes is how much is compacted at a time: the space it may take for a while.
	reclaimBytes = 16 << 20
)

// housekeep looks at the disk now and then, lets idle iterators of an outdated LSM tree go, and reclaims space when it is
// short, until the store is closed.
func (s *Store) housekeep() {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	shape := s.shape.Load()
	var reclaimed uint64 // the commit that the last pass began at
	var next time.Time
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		s.space.look()
		if now := s.shape.Load(); now != shape {
			shape = now
			s.dropIdle()
		}
		if seq := s.durableSeq(); s.NoSpace() && seq != reclaimed && time.Now().After(next) {
			start := time.Now()
			s.reclaim()
			reclaimed, next = seq, time.Now().Add(max(reclaimEvery, 2*time.Since(start)))
		}
	}
}

// dropIdle closes the idle iterators of the durable view.
func (s *Store) dropIdle() {
	if v := s.durableView(); v != nil {
		v.dropIdle()
		v.unref()
	}
}

func (s *Store) durableSeq() uint64 {
	if v := s.durable.Load(); v != nil {
		return v.commit.seq
	}
	return 0
}

// reclaim compacts the store piece by piece until the disk has room again. Pebble left alone compacts as writes come, and on
// a full disk they do not: what has been cleared would keep its space.
func (s *Store) reclaim() {
	from := []byte{metaPrefix}
	for _, to := range s.pieces() {
		if s.space.blocked.Load() > 0 || s.failure.Load() != nil {
			return
		}
		if bytes.Compare(from, to) >= 0 {
			continue
		}
		ctx, cancel := s.running()
		err := s.run(func() error { return s.db.Compact(ctx, from, to, false) })
		cancel()
		if err != nil {
			s.log.Warn("space could not be reclaimed", "error", err.Error())
			return
		}
		s.dropIdle()
		if s.space.look(); !s.NoSpace() {
			return
		}
		from = to
	}
}

// running returns a context that ends when the store is closed.
func (s *Store) running() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// pieces returns the ends of ranges that hold about reclaimBytes of tables each.
func (s *Store) pieces() [][]byte {
	levels, err := s.db.SSTables()
	if err != nil {
		return nil
	}
	type table struct {
		end  []byte
		size uint64
	}
	var tables []table
	for _, level := range levels {
		for _, t := range level {
			tables = append(tables, table{append(bytes.Clone(t.Largest.UserKey), 0), t.Size})
		}
	}
	slices.SortFunc(tables, func(a, b table) int { return bytes.Compare(a.end, b.end) })
	var ends [][]byte
	var size uint64
	for _, t := range tables {
		if size += t.size; size >= reclaimBytes {
			ends, size = append(ends, t.end), 0
		}
	}
	return append(ends, []byte{userEnd})
}
