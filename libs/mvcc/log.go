package mvcc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// ReadLog reads committed, durable entries with revisions from on, in order. It returns at most maxEntries entries and,
// unless the first alone is larger, maxBytes bytes. next is the revision to continue from; it is beyond the head when
// everything has been read. Errors: ErrCompacted if from is below the compact revision (the entry at the compact
// revision can still be read), ErrUnavailable, ErrCorrupt, the context's.
func (s *Store) ReadLog(
	ctx context.Context, from int64, maxEntries, maxBytes int,
) (entries []revlog.Entry, next int64, err error) {
	var payloads []revlog.Payload
	err = s.view(ctx, func(snap engine.Snapshot) error {
		c, err := s.compactOf(ctx, snap)
		if err != nil {
			return err
		}
		head, err := s.headOf(ctx, snap)
		if err != nil {
			return err
		}
		it := s.scanFrom(ctx, snap, from)
		defer it.Close()
		payloads, next, err = s.readLog(it, head, c, from, maxEntries, maxBytes)
		return err
	})
	if err != nil {
		return nil, 0, wanted(logFrom(from), err)
	}
	if len(payloads) > 0 {
		entries = make([]revlog.Entry, len(payloads))
	}
	for i, p := range payloads {
		if entries[i], err = s.Parse(p); err != nil && i > 0 {
			return entries[:i], p.Rev, nil // the entries before it are good
		} else if err != nil {
			return nil, 0, wanted(logFrom(from), err)
		}
	}
	return entries, next, nil
}

// ReadPayloads is ReadLog for callers that pass the log on. It leaves the entries as they are stored, and reads below
// the compact revision as long as nothing has been removed there. compact is the compact revision in the same state.
// Errors: as ReadLog, but ErrCompacted only if entries from on have been removed.
func (s *Store) ReadPayloads(
	ctx context.Context, from int64, maxEntries, maxBytes int,
) (payloads []revlog.Payload, next, compact int64, err error) {
	err = s.view(ctx, func(snap engine.Snapshot) error {
		// Both reads are started together, so that watchers wait for the store once after a commit, not twice.
		it, head := s.scanFrom(ctx, snap, from), s.scanHead(ctx, snap)
		defer it.Close()
		auth := s.scanAuth(ctx, snap)
		rows, rowsErr := snap.GetMany(ctx, [][]byte{s.compactRow, s.rows.meta(metaCompacted)})
		at, _, err := s.parseHead(snap, head)
		_, authErr := s.parseAuth(snap, auth)
		if err = errors.Join(storeErr(rowsErr), err, authErr); err != nil {
			return err
		}
		var removed int64
		if compact, err = parseCompact(rows[0]); err == nil {
			removed, err = parseCompact(rows[1])
		}
		if err != nil {
			return err
		}
		payloads, next, err = s.readLog(it, at, removed, from, maxEntries, maxBytes)
		return err
	})
	return payloads, next, compact, err
}

// Parse decodes what ReadPayloads has read, in this process or another. The entry points into the payload. Errors:
// ErrCorrupt.
func (s *Store) Parse(p revlog.Payload) (revlog.Entry, error) {
	e, err := s.codec.Parse(p.Bytes, p.Rev)
	if err != nil {
		return revlog.Entry{}, s.noted(errors.Join(ErrCorrupt, err))
	}
	return e, nil
}

// Check says whether Parse can decode an entry. Errors: ErrCorrupt.
func (s *Store) Check(p revlog.Payload) error {
	if err := s.codec.Check(p.Bytes, p.Rev); err != nil {
		return s.noted(errors.Join(ErrCorrupt, err))
	}
	return nil
}

// Codec decodes the entries of this log.
func (s *Store) Codec() revlog.Codec { return s.codec }

// scanFrom starts a read of the log of a snapshot.
func (s *Store) scanFrom(ctx context.Context, snap engine.Snapshot, from int64) engine.Iterator {
	return snap.Scan(
		ctx, engine.Range{Begin: s.rows.log(nil, s.meta.Space.Stamp(from)), End: s.rows.table(nil, tableLog+1)},
	)
}

// readLog returns what scanFrom has started to read. The log must not be read below floor.
func (s *Store) readLog(
	it engine.Iterator, head, floor, from int64, maxEntries, maxBytes int,
) (payloads []revlog.Payload, next int64, err error) {
	switch {
	case from > head:
		return nil, from, nil
	case from < floor:
		return nil, 0, ErrCompacted
	}
	err = s.visitLog(it, func(st engine.Stamp, payload []byte, _ int64) (bool, error) {
		payloads = append(payloads, revlog.Payload{Rev: s.meta.Space.Of(st), Bytes: payload})
		maxBytes -= len(payload)
		return len(payloads) < maxEntries && maxBytes > 0, nil
	})
	n := len(payloads)
	cut := n > 0 && (n >= maxEntries || maxBytes <= 0 || errors.Is(err, engine.ErrTooOld) || isDamage(err))
	switch {
	case cut: // what has been read is good; the next call reads the rest
		return payloads, payloads[n-1].Rev + 1, nil
	case err != nil:
		return nil, 0, err
	}
	return payloads, head + 1, nil
}

// visitLog calls visit for each entry until visit returns false. visit gets the entry's stamp, its payload put together
// from the chunks, and the size that its rows have among the live bytes. It may keep the payload.
func (s *Store) visitLog(
	it engine.Iterator, visit func(st engine.Stamp, payload []byte, live int64) (bool, error),
) error {
	at := s.rows.logStampAt()
	for it.Next() {
		st, err := engine.ParseStamp(it.Key()[at:])
		if err != nil || len(it.Key()) != at+engine.StampLen {
			return ErrCorrupt
		}
		size, n := binary.Uvarint(it.Value())
		if n <= 0 {
			return ErrCorrupt
		}
		live := s.rows.bytes(it.Key(), len(it.Value()))
		payload := bytes.Clone(it.Value()[n:])
		for uint64(len(payload)) < size && it.Next() {
			live += s.rows.bytes(it.Key(), len(it.Value()))
			payload = append(payload, it.Value()...)
		}
		if uint64(len(payload)) != size {
			if it.Err() != nil {
				break
			}
			return ErrCorrupt
		}
		if more, err := visit(st, payload, live); err != nil || !more {
			return err
		}
	}
	return storeErr(it.Err())
}

// WaitHead waits until the head has reached rev. It returns at once if it has, and may return too early. Errors:
// ErrUnavailable, the context's.
func (s *Store) WaitHead(ctx context.Context, rev int64) error {
	var row []byte
	err := s.view(ctx, func(snap engine.Snapshot) (err error) {
		row, err = snap.Get(ctx, s.headRow)
		row = bytes.Clone(row)
		return err
	})
	if err != nil {
		return err
	}
	st, _, err := parseHeadRow(row)
	if err != nil {
		return err
	}
	if s.meta.Space.Of(st) >= rev {
		return nil
	}
	return storeErr(s.eng.WaitChange(ctx, s.headRow, row))
}

// behindRows is how many rows of the log Behind reads in one state.
const behindRows = 10_000

// Behind returns the revision that has n >= 0 revisions of the log behind it: compacting there keeps n revisions. It
// returns 0 if the log has fewer. Errors: ErrUnavailable, ErrCorrupt, the context's.
func (s *Store) Behind(ctx context.Context, n int64) (rev int64, err error) {
	if s.limits.Dense {
		head, err := s.Head(ctx)
		return max(head-n, 0), err
	}
	w := logWalk{rows: s.rows, end: s.rows.table(nil, tableLog+1), left: n}
	for !w.done && err == nil {
		err = s.view(ctx, func(snap engine.Snapshot) error { return w.step(ctx, snap) })
	}
	if err != nil || !w.found {
		return 0, err
	}
	return s.meta.Space.Of(w.at), nil
}

// logWalk walks the log backwards.
type logWalk struct {
	rows  rows
	end   []byte       // the walk has passed the rows from here on
	left  int64        // entries to pass
	at    engine.Stamp // the entry that has left entries behind it, once found
	found bool
	done  bool
}

// step reads up to behindRows rows.
func (w *logWalk) step(ctx context.Context, snap engine.Snapshot) error {
	it := snap.Scan(ctx, engine.Range{
		Begin: w.rows.table(nil, tableLog), End: w.end, Reverse: true, KeysOnly: true, Limit: behindRows,
	})
	defer it.Close()
	at, seen := w.rows.logStampAt(), 0
	for ; it.Next(); seen++ {
		w.end = append(w.end[:0:0], it.Key()...)
		if len(it.Key()) != at+engine.StampLen {
			continue // a further chunk of an entry
		}
		if w.left > 0 {
			w.left--
			continue
		}
		st, err := engine.ParseStamp(it.Key()[at:])
		if err != nil {
			return ErrCorrupt
		}
		w.at, w.found, w.done = st, true, true
		return nil
	}
	if err := it.Err(); err != nil && (seen == 0 || !errors.Is(err, engine.ErrTooOld)) {
		return storeErr(err)
	}
	w.done = seen == 0
	return nil
}
