package mvcc

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revision"
)

// Beside are rows outside of a keyspace that describe it. Groups write them without reading them, in their own
// transactions. So the rows are never behind, and nobody conflicts over them.
type Beside struct {
	// Head gets the head (see ParseBesideHead), and Bell another value, at every revision.
	Head, Bell []byte
	// Leases is set by every grant, and where leases come with a copy.
	Leases []byte
	// Compacted gets another value with every compaction. Work counts these, and the copies with leases.
	Compacted, Work []byte
}

// noteLeases says that there are leases which nobody has been asked to grant: those who keep leases wait for Work.
func (b *Beside) noteLeases(txn engine.Txn) {
	txn.Set(b.Leases, nil)
	txn.Add(b.Work, 1)
}

// besideLen is the length of a row Beside.Head: a stamp, and the base (8) and the shift (1) of the keyspace's
// revisions.
const besideLen = engine.StampLen + 8 + 1

// appendBesideHead appends the row Beside.Head for a stamp.
func appendBesideHead(b []byte, space revision.Space, st engine.Stamp) []byte {
	b = binary.BigEndian.AppendUint64(st.Append(b), uint64(space.Base))
	return append(b, byte(space.Shift))
}

// ParseBesideHead returns the head revision that a row Beside.Head tells. Errors: ErrCorrupt.
func ParseBesideHead(row []byte) (int64, error) {
	if len(row) != besideLen {
		return 0, ErrCorrupt
	}
	st, err := engine.ParseStamp(row[:engine.StampLen])
	if err != nil {
		return 0, ErrCorrupt
	}
	space, err := revision.New(int64(binary.BigEndian.Uint64(row[engine.StampLen:])), uint(row[besideLen-1]))
	if err != nil {
		return 0, ErrCorrupt
	}
	return space.Of(st), nil
}

// besideHead writes the rows for a new head, whose stamp has the given index.
func (w *rowWriter) besideHead(index uint16) {
	s := w.g.s
	if s.o.Beside == nil {
		return
	}
	w.v = appendBesideHead(w.v[:0], s.meta.Space, engine.Stamp{Index: index})
	w.txn.SetStampedValue(s.o.Beside.Head, w.v, 0)
	w.v = engine.Stamp{Index: index}.Append(w.v[:0])
	w.txn.SetStampedValue(s.o.Beside.Bell, w.v, 0)
}

// besideWork writes the rows that report work which has to be done without requests.
func (w *rowWriter) besideWork() {
	g, b := w.g, w.g.s.o.Beside
	if b == nil {
		return
	}
	for _, l := range g.leases {
		if l.dirty && l.live && !l.lived {
			w.txn.Set(b.Leases, nil)
			break
		}
	}
	if g.compacts {
		w.txn.Set(b.Compacted, appendRev(nil, g.compact))
		w.txn.Add(b.Work, 1)
	}
}

// RemoveNow removes what compactions no longer need, without waiting for the grace after them. It returns when nothing
// is left, or ctx or the Store ends. It is for Stores with Options.NoRemoval and Options.Beside. Two calls at the same
// time do the same work twice, which is harmless. Errors: ctx's; ErrCorrupt if damaged data is in the way.
func (s *Store) RemoveNow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	err := s.view(ctx, func(snap engine.Snapshot) error { // others compact too
		c, err := s.compactOf(ctx, snap)
		s.compactedTo(c)
		return err
	})
	if err != nil {
		return err
	}
	s.removeCompacted(ctx, removeGrace, true)
	if target, done, _ := s.removal.state(); done >= target {
		return nil
	}
	if err := s.removal.damaged(); err != nil {
		return err
	}
	return ctx.Err()
}

// Removed says whether nothing is left to remove after compactions, in r's state. Errors: ErrCorrupt, the engine's.
func (s *Store) Removed(ctx context.Context, r engine.Reader) (bool, error) {
	compacted, err := s.compactOf(ctx, r)
	if err != nil {
		return false, err
	}
	removed, err := s.removedOf(ctx, r)
	return removed >= compacted, err
}

// Leaseless says whether the keyspace has no lease, in r's state. Errors: the engine's.
func (s *Store) Leaseless(ctx context.Context, r engine.Reader) (bool, error) {
	q := s.rows.tableRange(tableLease)
	q.Limit, q.KeysOnly = 1, true
	it := r.Scan(ctx, q)
	defer it.Close()
	return !it.Next(), storeErr(it.Err())
}

// tidyTimeout bounds the time to clear a Store's own commit rows.
const tidyTimeout = time.Second

// tidy clears the commit rows of this Store, whose lanes have ended. If it fails, the rows do no harm.
func (s *Store) tidy() {
	if s.o.Beside == nil || s.usage.Groups.Load() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tidyTimeout)
	defer cancel()
	_ = s.update(ctx, func(txn engine.Txn) error {
		for _, l := range s.lanes {
			txn.Clear(l.row)
		}
		return nil
	})
}
