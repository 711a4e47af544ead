package pebble

import (
	"context"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
)

// When memtables are written out before they are full, and when the store is compacted without a request.
const (
	// idleAfter is how long there must be no commit for the store to count as idle.
	idleAfter = 10 * time.Second
	// idleFlushBytes of log are left for idleFlushAfter on an idle store, because their replay takes no time. They are
	// not left longer: a few bytes that clear rows may keep any number of bytes in the tables.
	idleFlushBytes = 64 << 10
	idleFlushAfter = 25 * time.Second
	// earlyFlushMin is the size of the log from which on it is cut to flushPart of the tables.
	earlyFlushMin = 4 << 20
	flushPart     = 8
	// slowFlushEvery bounds the age of a log of more than slowFlushBytes in a store that is written to now and then.
	slowFlushEvery = 30 * time.Second
	slowFlushBytes = 256 << 10
	// The tables are compacted when 1/garbagePart of their bytes, and at least garbageMin bytes, are garbage.
	garbagePart = 5
	garbageMin  = 1 << 20
	// retryGarbageAfter is the time between two passes if there was no commit between them.
	retryGarbageAfter = 20 * time.Second
	// viewsAtRest is how many of Pebble's snapshots an idle store without readers has: the durable view.
	viewsAtRest = 1
)

// housekeeper is the state of housekeep. Only its goroutine uses it.
type housekeeper struct {
	s        *Store
	shape    uint64
	seq      uint64    // the last commit at the last tick
	changed  time.Time // when seq changed
	flushed  time.Time
	upTo     uint64    // the commit at which memtables were last written out
	passed   uint64    // the commit at which the last pass began
	passedAt time.Time // when the last pass ended
	roomAt   uint64    // the commit at which makeRoom last began
	roomNext time.Time
}

// housekeep runs until the store is closed. It watches the disk, closes idle iterators of an outdated LSM tree, keeps
// logs short, and compacts garbage.
func (s *Store) housekeep() {
	h := &housekeeper{
		s:       s,
		shape:   s.shape.Load(),
		changed: time.Now(),
		flushed: time.Now(),
		upTo:    ^uint64(0),
		passed:  ^uint64(0),
		roomAt:  ^uint64(0),
	}
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		case <-s.space.pressed:
		}
		if s.failure.Load() != nil {
			return
		}
		if s.readOnly.Load() {
			s.tryPromote()
			continue
		}
		h.tick(time.Now())
	}
}

func (h *housekeeper) tick(now time.Time) {
	s := h.s
	s.space.look()
	if shape := s.shape.Load(); shape != h.shape {
		h.shape = shape
		s.dropIdle()
	}
	seq := s.durableSeq()
	if seq != h.seq {
		h.seq, h.changed = seq, now
	}
	m := s.db.Metrics()
	if s.NoSpace() {
		h.makeRoom(now, seq)
		return
	}
	h.keepLogsShort(now, m)
	if h.wantsPass(now, m) {
		h.passed = seq
		ctx, cancel := s.running()
		s.gentle.Store(&cancel)
		s.endGentle()
		err := s.compactAll(ctx, pass{gentle: true})
		s.gentle.Store(nil)
		gaveWay := ctx.Err() != nil
		cancel()
		switch {
		case gaveWay:
			h.passed = ^uint64(0) // whoever has ended it may not come to the end
		case err != nil:
			s.log.Warn("space could not be reclaimed, will be tried again", "error", err.Error())
		}
		h.passedAt = time.Now()
		h.flushed = h.passedAt
	}
}

// keepLogsShort writes out memtables whose log is old, or long for the size of the store. It removes logs that are no
// longer needed.
func (h *housekeeper) keepLogsShort(now time.Time, m *pdb.Metrics) {
	s := h.s
	logs, tables := m.WAL.Size, m.Total().TablesSize
	idle := now.Sub(h.changed) >= idleAfter
	spare := 1
	switch {
	case idle && logs > idleFlushBytes,
		h.upTo != h.seq && now.Sub(h.changed) >= idleFlushAfter,
		logs > max(earlyFlushMin, uint64(tables)/flushPart),
		logs > slowFlushBytes && now.Sub(h.flushed) >= slowFlushEvery:
		h.flushed, h.upTo = now, h.seq
		_, _ = s.asyncFlush()
	case idle:
		spare = 0
	}
	s.trimLogs(spare)
}

// wantsPass tells whether enough of the tables is garbage. What tombstones will free is estimated; what newer versions
// of rows replace is not known, and at most what lies above the last level: that is looked at when the store is idle
// and nobody reads an older state. What such a reader keeps would come to lie in the last level beside what replaced
// it, where no pass looks again.
func (h *housekeeper) wantsPass(now time.Time, m *pdb.Metrics) bool {
	if h.s.durableSeq() == h.passed && now.Sub(h.passedAt) < retryGarbageAfter {
		return false
	}
	tables := m.Total().TablesSize
	garbage := int64(m.Table.Garbage.PointDeletionsBytesEstimate + m.Table.Garbage.RangeDeletionsBytesEstimate)
	if now.Sub(h.changed) >= idleAfter && h.s.durableSeq() != h.passed && m.Snapshots.Count <= viewsAtRest {
		for i := range len(m.Levels) - 1 {
			garbage += m.Levels[i].TablesSize
		}
	}
	return garbage > max(garbageMin, tables/garbagePart)
}

// makeRoom frees space on a full disk. It writes out memtables, so that their logs can be removed, and compacts the
// tables piece by piece until there is room. If that finds no space, compactions may use more of the reserve the next
// time.
func (h *housekeeper) makeRoom(now time.Time, seq uint64) {
	s := h.s
	if seq == h.roomAt && now.Before(h.roomNext) {
		return
	}
	h.roomAt = seq
	ctx, cancel := s.running()
	defer cancel()
	err := s.compactAll(ctx, pass{})
	s.trimLogs(0)
	s.space.look()
	switch {
	case ctx.Err() != nil:
	case err != nil && isNoSpace(err):
		s.space.emergency.Store(true)
	case err != nil:
		s.log.Warn("space could not be reclaimed, will be tried again", "error", err.Error())
	}
	took := time.Since(now)
	h.roomNext = time.Now().Add(max(5*time.Second, 2*took))
	if err != nil {
		h.roomNext = time.Now().Add(max(checkEvery, took))
	}
}

// dropIdle closes the idle iterators of the durable view.
func (s *Store) dropIdle() {
	if v := s.durable.Load(); v != nil && v.tryRef() {
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
