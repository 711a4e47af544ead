package mvcc

import (
	"context"
	"encoding/binary"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// targetKeepsBytes is how many bytes of replaced values the entry at the compact revision may keep.
const targetKeepsBytes = 1 << 20

// removalBatch is what one transaction removes: entries of the log, the hist rows of their events, and the values that
// they replaced. Only reads below these entries need those rows. An entry with more events than fit into a batch is
// removed in several batches, its events first and the entry with the last of them. A row counts the events that are
// gone.
type removalBatch struct {
	s       *Store
	clears  []engine.Range // rows: one if End is nil
	size    int            // bytes of the log that were read and of the rows to clear
	freed   int64          // live bytes
	entries int64
	next    int64 // all entries below it are in the batch
	target  int64 // the entry at this revision stays
	whole   bool  // the batch is the last

	partRev, partEvents int64 // as found; partRev is 0 if there is none
	leftRev, leftEvents int64 // as left
}

// partLen is the length of the row about an entry that has been removed in part: revision (8), events (8).
const partLen = 16

func (b *removalBatch) readPart(ctx context.Context, r engine.Reader) error {
	row, err := r.Get(ctx, b.s.rows.meta(metaPart))
	if err != nil || row == nil {
		return err
	}
	if len(row) != partLen {
		return ErrCorrupt
	}
	b.partRev, b.partEvents = int64(binary.BigEndian.Uint64(row)), int64(binary.BigEndian.Uint64(row[8:]))
	return nil
}

// write puts the batch into the transaction.
func (b *removalBatch) write(txn engine.Txn) {
	for _, r := range b.clears {
		if r.End == nil {
			txn.Clear(r.Begin)
		} else {
			txn.ClearRange(r.Begin, r.End)
		}
	}
	row := b.s.rows.meta(metaPart)
	switch {
	case b.leftRev != 0:
		txn.Set(row, appendRev(appendRev(nil, b.leftRev), b.leftEvents))
	case b.partRev != 0:
		txn.Clear(row)
	}
}

// full reports whether the batch takes no more.
func (b *removalBatch) full() bool { return b.entries == removeEntries || b.size >= removeBytes }

// add takes in an entry, or as much of it as fits.
func (b *removalBatch) add(st engine.Stamp, payload []byte, live int64) (more bool, err error) {
	rev := b.s.meta.Space.Of(st)
	if b.full() {
		b.next, b.whole = rev, false
		return false, nil
	}
	if rev == b.target {
		keeps, err := b.targetKeeps(payload)
		if err != nil || keeps {
			b.next = rev
			return false, err
		}
	}
	b.size += min(len(payload), removeBytes/2) // an entry alone does not fill the batch
	var skip, i, taken int64
	if rev == b.partRev {
		skip = b.partEvents
	}
	err = b.s.codec.Visit(payload, rev, func(ev *revlog.Event, at revlog.PrevAt) {
		if i++; i > skip && !b.full() {
			b.event(ev, st, at)
			taken = i
		}
	})
	if err != nil {
		return false, ErrCorrupt
	}
	if taken = max(taken, skip); taken < i || rev == b.target {
		b.next, b.leftRev, b.leftEvents, b.whole = rev, rev, taken, taken == i
		return false, nil
	}
	b.freed += live
	b.entries++
	return true, nil
}

// targetKeeps reports whether the entry at the target replaced so little that its values may stay.
func (b *removalBatch) targetKeeps(payload []byte) (bool, error) {
	sum := 0
	err := b.s.codec.Visit(payload, b.target, func(ev *revlog.Event, _ revlog.PrevAt) { sum += ev.Prev.Bytes() })
	if err != nil {
		return false, ErrCorrupt
	}
	return sum <= targetKeepsBytes, nil
}

// event takes in what only reads below an event need.
func (b *removalBatch) event(ev *revlog.Event, st engine.Stamp, at revlog.PrevAt) {
	if !ev.HasPrev {
		return
	}
	row := b.s.rows.hist(nil, ev.KV.Key, st)
	b.clear(engine.Range{Begin: row})
	b.freed += b.s.rows.bytes(row, replacedBytes(&ev.Prev, at))
	if ev.Prev.Place == revlog.PlaceInline {
		return
	}
	ref := refOf(&ev.Prev)
	b.freed += b.s.valBytes(&ref)
	n := chunksOf(ref.Size, b.s.meta.ChunkBytes)
	first := b.s.valRow(nil, &ref, 0)
	if ref.Place == revlog.PlaceOwn && n > 1 {
		b.clear(engine.Range{Begin: first, End: b.s.valRow(nil, &ref, n)})
		return
	}
	for i := range n { // rows of format 1 do not lie together
		b.clear(engine.Range{Begin: b.s.valRow(nil, &ref, i)})
	}
}

func (b *removalBatch) clear(r engine.Range) {
	b.clears = append(b.clears, r)
	b.size += len(r.Begin) + len(r.End)
}
