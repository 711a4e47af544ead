package pebble

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// errNoRoomForMemory means that memtables could not be written out.
var errNoRoomForMemory = fmt.Errorf("memtables cannot be written out: %w", syscall.ENOSPC)

const (
	// progressEvery is the time between two log lines about a long pass.
	progressEvery = 10 * time.Second
	// obsoleteWait bounds the wait for files that readers keep.
	obsoleteWait = 3 * time.Second
	// obsoletePoll is the time between two checks for them.
	obsoletePoll = 5 * time.Millisecond
	// gentlePauseMax bounds the pause between two pieces while others write.
	gentlePauseMax = 5 * time.Second
)

// pass describes one compaction of the store.
type pass struct {
	gentle bool // while others write, pause between pieces as long as each took
	report bool // log progress
	rows   span // only these; all if its end is nil
}

// Defragment compacts the whole store. When it returns nil, everything that was deleted or replaced before the call,
// and that no open snapshot or transaction can still read, has left the disk, but for at most rewriteAsked hundredths
// of each value file. It works piece by piece, so it needs little extra space, and neither reads nor writes wait for
// it. A second call waits for the first. A pass that the store has started by itself makes way. It may be called from
// any goroutine. Errors: ErrNoSpace (not even one piece can be rewritten), ErrUnavailable, ErrClosed, the context's.
func (s *Store) Defragment(ctx context.Context) error {
	return s.defragment(ctx, span{[]byte{metaPrefix}, []byte{userEnd}})
}

// defragment is Defragment for some rows.
func (s *Store) defragment(ctx context.Context, rows span) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if s.readOnly.Load() {
		return s.errReadOnly()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-s.stop:
			cancel(engine.ErrClosed)
		case <-s.failed:
			cancel(s.err())
		case <-stopped:
		}
	}()
	s.wanted.Add(1)
	defer s.wanted.Add(-1)
	s.endGentle()
	err := s.compactAll(ctx, pass{report: true, rows: rows})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isNoSpace(err):
		s.space.press()
		return fmt.Errorf("%w: compaction: %w", engine.ErrNoSpace, err)
	}
	return fmt.Errorf("%w: compaction: %w", engine.ErrUnavailable, err)
}

// endGentle ends a gentle pass if Defragment is wanted, which does the same without pauses.
func (s *Store) endGentle() {
	if end := s.gentle.Load(); end != nil && s.wanted.Load() > 0 {
		(*end)()
	}
}

// compactAll writes out the memtables and moves everything into the last level, piece by piece. Rows hidden by
// tombstones and newer versions are then gone. One pass runs at a time.
func (s *Store) compactAll(ctx context.Context, p pass) error {
	select {
	case s.passes <- struct{}{}:
		defer func() { <-s.passes }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var ofValues error
	if !p.gentle { // they are collected all the time
		ofValues = s.values.collect(ctx, asked)
	}
	if err := s.flushWait(ctx); err != nil {
		return err
	}
	s.trimLogs(0)
	pieces, err := s.pieces()
	if err != nil {
		return err
	}
	start, reported := time.Now(), time.Now()
	for i, piece := range pieces {
		if piece = piece.within(p.rows); string(piece.begin) >= string(piece.end) {
			continue
		}
		begin, seq := time.Now(), s.durableSeq()
		if err := s.compactPiece(ctx, piece); err != nil {
			return err
		}
		s.dropIdle()
		s.space.look() // housekeep does not check while it runs this pass
		if p.report && time.Since(reported) >= progressEvery {
			reported = time.Now()
			s.log.Info(
				"defragmenting", "pieces-done", i+1, "pieces", len(pieces), "took",
				time.Since(start).Round(time.Second).String(),
			)
		}
		if p.gentle && !s.NoSpace() && s.durableSeq() != seq {
			_ = retry.Sleep(ctx, min(time.Since(begin), gentlePauseMax))
		}
	}
	s.awaitDeletion(ctx)
	s.forgetUsage()
	return cmp.Or(ctx.Err(), ofValues)
}

// compactPiece compacts one range of rows. It returns when that is done or ctx has ended. Pebble then finishes what it
// has begun.
func (s *Store) compactPiece(ctx context.Context, r span) error {
	err := s.run(func() error { return s.db.Compact(ctx, r.begin, r.end, false) })
	if errors.Is(err, pdb.ErrCancelledCompaction) {
		return nil
	}
	return err
}

// flushWait writes out the memtables. On a full disk it gives up when there is no space for them.
func (s *Store) flushWait(ctx context.Context) error {
	if s.space.blocked.Load() > 0 {
		return errNoRoomForMemory // the log cannot be rotated
	}
	flushed, err := s.asyncFlush()
	if err != nil {
		return err
	}
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		select {
		case <-flushed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if s.space.noFlush.Load() {
				return errNoRoomForMemory
			}
		}
	}
}

// awaitDeletion waits, for at most obsoleteWait, until the files that compactions have replaced are gone. Active
// readers keep them.
func (s *Store) awaitDeletion(ctx context.Context) {
	tick := time.NewTicker(obsoletePoll)
	defer tick.Stop()
	for end := time.Now().Add(obsoleteWait); time.Now().Before(end); {
		s.dropIdle()
		m := s.db.Metrics()
		if m.Table.Local.ObsoleteSize+m.Table.Local.ZombieSize == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// pieces cuts the rows into ranges of about space.piece bytes of tables each, and returns those in which there is
// anything to do: tables above the last level.
func (s *Store) pieces() ([]span, error) {
	levels, err := s.db.SSTables()
	if err != nil {
		return nil, err
	}
	var all []pdb.SSTableInfo
	var upper []span
	for i, level := range levels {
		for _, t := range level {
			all = append(all, t)
			if i < len(levels)-1 {
				upper = append(upper, span{t.Smallest.UserKey, append(bytes.Clone(t.Largest.UserKey), 0)})
			}
		}
	}
	slices.SortFunc(all, func(a, b pdb.SSTableInfo) int { return bytes.Compare(a.Largest.UserKey, b.Largest.UserKey) })
	var out []span
	from, size := []byte{metaPrefix}, uint64(0)
	cut := func(to []byte) {
		r := span{from, to}
		overlaps := func(u span) bool { return bytes.Compare(u.begin, r.end) < 0 && bytes.Compare(r.begin, u.end) < 0 }
		if bytes.Compare(from, to) < 0 && slices.ContainsFunc(upper, overlaps) {
			out = append(out, r)
		}
		from, size = to, 0
	}
	for _, t := range all {
		if size += t.Size; size >= s.space.piece {
			if end := append(bytes.Clone(t.Largest.UserKey), 0); bytes.Compare(from, end) < 0 {
				cut(end)
			}
		}
	}
	cut([]byte{userEnd})
	return out, nil
}
