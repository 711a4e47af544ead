package mvcc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// A hold is a row that delays the removal of compacted rows while somebody reads the history in many transactions. It
// has the compact revision at its start, the revision that is read, and how often it has been renewed. Compaction
// itself goes on. Removal reads all holds with a conflict, and removes nothing above the lowest. A hold ends by itself:
// the remover deletes one that has not changed for holdStale, or is older than holdAgeMax, by its own clock.
//
// Correctness does not depend on holds. A reader with a hold also checks in each state that nothing above its compact
// revision has been removed (a release without holds would do that), and gives up otherwise.

// Times of holds.
const (
	holdRenewEvery = 5 * time.Second  // between two renewals
	holdStale      = time.Minute      // a hold that has not been renewed for so long is nobody's
	holdAgeMax     = 2 * time.Hour    // a hold that has been seen for so long is broken
	holdLookEvery  = time.Second      // between two looks of a removal that is held back
	holdCloseMax   = 10 * time.Second // for the deletion of the row at the end
)

// holdsMax bounds the holds of a keyspace.
const holdsMax = 16

// metaHold is the beginning of the names of holds.
const metaHold = "hold/"

// holdLen is the length of a hold's row: compact revision (8), revision (8), renewals (8).
const holdLen = 24

// ErrHoldLost: history that a Dump must read may have been removed. The dump took too long, or could not renew its hold
// for too long, or a release without holds has removed it.
var ErrHoldLost = errors.New("mvcc: the history was removed while it was read")

// holdRow is the content of a hold's row.
type holdRow struct {
	compact, rev int64
	count        uint64
}

func (h *holdRow) append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(appendRev(appendRev(b, h.compact), h.rev), h.count)
}

func parseHold(row []byte) (h holdRow, err error) {
	if len(row) != holdLen {
		return h, ErrCorrupt
	}
	h.compact, h.rev = int64(binary.BigEndian.Uint64(row)), int64(binary.BigEndian.Uint64(row[8:]))
	h.count = binary.BigEndian.Uint64(row[16:])
	return h, nil
}

// newHoldRow returns a row for a hold that nobody else uses.
func (s *Store) newHoldRow() []byte {
	var id [8]byte
	rand.Read(id[:])
	return s.rows.meta(metaHold + hex.EncodeToString(id[:]))
}

// holds calls visit with each hold in a reader's state. In a transaction they are read with a conflict.
func (s *Store) holds(ctx context.Context, r engine.Reader, visit func(row, value []byte, h holdRow) error) error {
	begin := s.rows.meta(metaHold)
	it := r.Scan(ctx, engine.Range{Begin: begin, End: prefixEnd(begin)})
	defer it.Close()
	for it.Next() {
		h, err := parseHold(it.Value())
		if err != nil {
			return err
		}
		if err := visit(it.Key(), it.Value(), h); err != nil {
			return err
		}
	}
	return storeErr(it.Err())
}

// lowestHold returns the revision up to which removal may go: the lowest compact revision of all holds, or target.
func (s *Store) lowestHold(ctx context.Context, r engine.Reader, target int64) (int64, error) {
	err := s.holds(ctx, r, func(_, _ []byte, h holdRow) error {
		target = min(target, h.compact)
		return nil
	})
	return target, err
}

// seenHolds is what a removal has seen of holds, by its own clock.
type seenHolds map[string]*seenHold

type seenHold struct {
	value          []byte
	first, changed time.Time
}

// awaitHolds returns when the holds below a target may have changed. It deletes holds that nobody renews, and those
// that are too old.
func (s *Store) awaitHolds(ctx context.Context, seen seenHolds, target int64) {
	if err := s.lookAtHolds(ctx, seen, target); err != nil && ctx.Err() == nil {
		s.o.Logger.Warn("the holds on the removal of compacted rows cannot be read, will be tried again", "error", err)
	}
	_ = retry.Sleep(ctx, holdLookEvery)
}

func (s *Store) lookAtHolds(ctx context.Context, seen seenHolds, target int64) error {
	var gone []string
	there := map[string]bool{}
	err := s.view(ctx, func(snap engine.Snapshot) error {
		gone = nil
		clear(there)
		return s.holds(ctx, snap, func(row, value []byte, h holdRow) error {
			there[string(row)] = true
			if seen.note(string(row), value, time.Now()) && h.compact < target {
				gone = append(gone, string(row))
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for row := range seen {
		if !there[row] {
			delete(seen, row)
		}
	}
	for _, row := range gone {
		s.o.Logger.Warn("a hold on the removal of compacted rows is broken: it was not renewed, or has become too old",
			"renewals-missed-for", holdStale, "age-limit", holdAgeMax)
		if err := s.breakHold(ctx, []byte(row), seen[row].value); err != nil {
			return err
		}
	}
	return nil
}

// note records a hold, and says whether it has ended.
func (m seenHolds) note(row string, value []byte, now time.Time) (over bool) {
	h := m[row]
	if h == nil {
		h = &seenHold{first: now}
		m[row] = h
	}
	if !bytes.Equal(h.value, value) {
		h.value, h.changed = bytes.Clone(value), now
	}
	return now.Sub(h.changed) >= holdStale || now.Sub(h.first) >= holdAgeMax
}

// breakHold deletes a hold that is too old, or that has not changed.
func (s *Store) breakHold(ctx context.Context, row, was []byte) error {
	err := s.update(ctx, func(txn engine.Txn) error {
		now, err := txn.Get(ctx, row)
		switch {
		case err != nil:
			return err
		case now == nil, !bytes.Equal(now, was):
			return errNothing
		}
		txn.Clear(row)
		return nil
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// takeHold writes a hold for a read at rev (0: the head), and returns what the hold keeps.
func (s *Store) takeHold(ctx context.Context, row []byte, rev int64) (h holdRow, head int64, err error) {
	err = s.update(ctx, func(txn engine.Txn) error {
		// The compact revision is read with a conflict. So a removal beyond it that is under way makes this run again.
		c, err := s.compactOf(ctx, txn)
		if err != nil {
			return err
		}
		if head, err = s.readHead(ctx, txn); err != nil {
			return err
		}
		h = holdRow{compact: c, rev: rev}
		if rev <= 0 {
			h.rev = head
		}
		switch {
		case h.rev > head:
			return ErrFutureRevision
		case h.rev < c:
			return ErrCompacted
		}
		others := 0
		err = s.holds(ctx, txn, func(have, _ []byte, _ holdRow) error {
			if !bytes.Equal(have, row) { // an earlier attempt with an unknown outcome may have written it
				others++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if others >= holdsMax {
			return ErrTooManyRequests
		}
		txn.Set(row, h.append(nil))
		return nil
	})
	return h, head, err
}

// renewHold counts a renewal. Errors: ErrHoldLost if the row is gone.
func (s *Store) renewHold(ctx context.Context, row []byte) error {
	return s.update(ctx, func(txn engine.Txn) error {
		b, err := txn.Get(ctx, row)
		switch {
		case err != nil:
			return err
		case b == nil:
			return ErrHoldLost
		}
		h, err := parseHold(b)
		if err != nil {
			return err
		}
		h.count++
		txn.Set(row, h.append(nil))
		return nil
	})
}

// keepHold renews a hold until ctx ends or the row is gone.
func (s *Store) keepHold(ctx context.Context, row []byte) {
	for retry.Sleep(ctx, holdRenewEvery) == nil {
		if err := s.renewHold(ctx, row); errors.Is(err, ErrHoldLost) || errors.Is(err, ErrClosed) {
			return
		} else if err != nil && ctx.Err() == nil {
			s.o.Logger.Warn("a hold could not be renewed, will be tried again", "error", err)
		}
	}
}

// dropHold deletes a hold.
func (s *Store) dropHold(ctx context.Context, row []byte) error {
	return s.update(ctx, func(txn engine.Txn) error {
		txn.Clear(row)
		return nil
	})
}
