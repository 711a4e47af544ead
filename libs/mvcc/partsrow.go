package mvcc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// partsFormat and its rest are the row meta/parts: format (1), who writes (16), digest of the revision (32), revision
// (8), longest value in a record (4), length of the log entry (8), rows that have been added (8), 1 when the rest of
// them need not be added (1), events that have been carried out (8), and where the next one is in the entry (8).
const (
	partsFormat   = 1
	partsRowBytes = 1 + 16 + sha256.Size + 8 + 4 + 8 + 8 + 1 + 8 + 8
)

// partsAt is how far a revision is.
type partsAt struct {
	who      [16]byte
	digest   [sha256.Size]byte
	rev      int64
	inline   int64
	entry    int64
	added    int64
	applying bool
	done     int64
	offset   int64
}

func (a *partsAt) row() []byte {
	b := append([]byte{partsFormat}, a.who[:]...)
	b = appendRev(append(b, a.digest[:]...), a.rev)
	b = binary.BigEndian.AppendUint32(b, uint32(a.inline))
	b = appendRev(appendRev(b, a.entry), a.added)
	flag := byte(0)
	if a.applying {
		flag = 1
	}
	return appendRev(appendRev(append(b, flag), a.done), a.offset)
}

func parsePartsAt(b []byte) (a partsAt, err error) {
	if len(b) != partsRowBytes || b[0] != partsFormat {
		return a, ErrCorrupt
	}
	b = b[1+copy(a.who[:], b[1:]):]
	b = b[copy(a.digest[:], b):]
	number := func() int64 { v := int64(binary.BigEndian.Uint64(b)); b = b[8:]; return v }
	a.rev = number()
	a.inline, b = int64(binary.BigEndian.Uint32(b)), b[4:]
	a.entry, a.added = number(), number()
	a.applying, b = b[0] != 0, b[1:]
	a.done, a.offset = number(), number()
	return a, nil
}

// digestOf tells one revision from another.
func digestOf(r *ReplayRevision) (sum [sha256.Size]byte) {
	d := sha256.New()
	var b []byte
	field := func(p []byte) {
		d.Write(binary.AppendUvarint(b[:0], uint64(len(p))))
		d.Write(p)
	}
	d.Write(appendRev(nil, r.Rev))
	for i := range r.Events {
		ev := &r.Events[i]
		b = b[:0]
		if ev.Delete {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		d.Write(appendRev(appendRev(appendRev(b, ev.KV.Create), ev.KV.Version), ev.KV.Lease))
		field(ev.KV.Key)
		field(ev.KV.Value)
	}
	d.Sum(sum[:0])
	return sum
}

// awaitWhole waits until a revision that is written in parts may be there, at most until deadline, which it sets at the
// first call. It says whether to read again.
func (s *Store) awaitWhole(ctx context.Context, deadline *time.Time) bool {
	if deadline.IsZero() {
		*deadline = time.Now().Add(s.wholeWait)
	}
	ctx, cancel := context.WithDeadline(ctx, *deadline)
	defer cancel()
	snap, err := s.eng.Snapshot(ctx)
	if err != nil {
		return false
	}
	row, err := snap.Get(ctx, s.headRow)
	row = bytes.Clone(row)
	snap.Close()
	if err != nil {
		return false
	}
	if _, f, err := parseHeadRow(row); err != nil || !f.Has(FeatureParts) {
		return true
	}
	return s.eng.WaitChange(ctx, s.headRow, row) == nil
}
