package mvcc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Limits of what a Dump reads in one state of the engine.
const (
	dumpPageBytes   = 8 << 20
	dumpPageTime    = time.Second
	dumpPageEntries = 4096
	// dumpPageShrink is the factor by which pages of the log get shorter after a state was too old for one. After fewer
	// than staleScansMax steps a page is a single entry.
	dumpPageShrink = 4
	// dumpGrowth bounds by how much a cache of the engine grows while a dump reads everything once.
	dumpGrowth = 16 << 20
)

// Dump reads a keyspace as it is at one revision, with all history that is left, under a hold. It reads in many states
// of the engine, while writes and compactions go on. Its methods are called by one goroutine at a time. What they pass
// to visit is valid during the call only. They end with ErrHoldLost if the history has been removed in the meantime,
// and otherwise with ErrUnavailable, ErrCorrupt, the context's error, or visit's.
type Dump struct {
	// Rev is the revision. Compact is the compact revision at the beginning, or -1.
	Rev, Compact int64

	s    *Store
	row  []byte          // row of the hold; nil: no hold, and a removal may overtake the dump
	snap engine.Snapshot // if set, everything is read in it
	stop context.CancelFunc
	full func() // ends the frugality

	moved int // the number of visits

	kept chan struct{} // closed when nobody renews the hold any more
}

// BeginDump starts to read the keyspace at rev (0: the head). The caller must Close the Dump. Errors: ErrCompacted,
// ErrFutureRevision, ErrTooManyRequests (too many are under way), ErrUnavailable, ErrNoSpace, the context's.
func (s *Store) BeginDump(ctx context.Context, rev int64) (*Dump, error) {
	row := s.newHoldRow()
	h, _, err := s.takeHold(ctx, row, rev)
	if err != nil {
		s.closeHold(row) // it may be there after an error
		return nil, err
	}
	keep, stop := context.WithCancel(s.closing)
	d := &Dump{
		Rev: h.rev, Compact: h.compact, s: s, row: row, stop: stop, kept: make(chan struct{}),
		full: s.frugal(dumpGrowth),
	}
	go func() {
		defer close(d.kept)
		s.keepHold(keep, row)
	}()
	return d, nil
}

// Close removes the hold. If that fails, the hold ends by itself later.
func (d *Dump) Close() error {
	d.stop()
	<-d.kept
	d.full()
	return d.s.closeHold(d.row)
}

func (s *Store) closeHold(row []byte) error {
	ctx, cancel := context.WithTimeout(s.work, holdCloseMax)
	defer cancel()
	return s.dropHold(ctx, row)
}

// held checks that nothing that the dump reads has been removed in a state.
func (d *Dump) held(ctx context.Context, snap engine.Snapshot) error {
	keys := [][]byte{d.s.rows.meta(metaCompacted)}
	if d.row != nil {
		keys = append(keys, d.row)
	}
	rows, err := snap.GetMany(ctx, keys)
	if err != nil {
		return err
	}
	removed, err := parseCompact(rows[0])
	switch {
	case err != nil:
		return err
	case d.row != nil && rows[1] == nil, removed > d.Compact:
		return ErrHoldLost
	}
	return nil
}

// errPage ends a page.
var errPage = errors.New("mvcc: a page is full")

// pages runs f with one state after another until it returns nil. f ends a page with errPage after it has made
// progress.
func (d *Dump) pages(ctx context.Context, f func(snap engine.Snapshot) error) error {
	for {
		err := d.state(ctx, func(snap engine.Snapshot) error {
			if err := d.held(ctx, snap); err != nil {
				return err
			}
			before := d.moved
			err := f(snap)
			if errors.Is(err, engine.ErrTooOld) && d.moved > before {
				return errPage
			}
			return err
		})
		if !errors.Is(err, errPage) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// state is Store.view, but in the dump's fixed state if it has one.
func (d *Dump) state(ctx context.Context, f func(snap engine.Snapshot) error) error {
	if d.snap != nil {
		return storeErr(f(d.snap))
	}
	return d.s.view(ctx, f)
}

// pageMeter says when a page is full.
type pageMeter struct {
	bytes int
	begin time.Time
}

func (m *pageMeter) add(bytes int) error {
	if m.bytes += bytes; m.bytes >= dumpPageBytes || time.Since(m.begin) >= dumpPageTime {
		return errPage
	}
	return nil
}

// Versions visits, in the order of keys, the versions that are live at the compact revision, except those that were
// written at it, which are among the Events. A keyspace that has never been compacted has none.
func (d *Dump) Versions(ctx context.Context, visit Visit) error {
	if d.Compact <= 0 {
		return nil
	}
	return d.live(ctx, d.Compact, needValue, func(kv *KV) error {
		if kv.Mod == d.Compact {
			return nil
		}
		return visit(kv)
	})
}

// Live visits, in the order of keys, the versions that are live at the dump's revision, without their values.
func (d *Dump) Live(ctx context.Context, visit Visit) error {
	return d.live(ctx, d.Rev, needMeta, visit)
}

func (d *Dump) live(ctx context.Context, rev int64, need need, visit Visit) error {
	return d.span(ctx, rev, need, []byte{}, []byte{0}, visit)
}

// span visits the versions that are live at a revision, for the keys from from up to end, or all ([]byte{0}).
func (d *Dump) span(ctx context.Context, rev int64, need need, from, end []byte, visit Visit) error {
	from = bytes.Clone(from)
	return d.pages(ctx, func(snap engine.Snapshot) error {
		head, err := d.s.headOf(ctx, snap)
		if err != nil {
			return err
		}
		m := pageMeter{begin: time.Now()}
		c := cursor{s: d.s, r: snap, rev: rev, head: head, need: need, limit: -1, renews: true}
		err = c.scan(ctx, from, end, func(kv *KV) error {
			if err := visit(kv); err != nil {
				return err
			}
			from = append(append(from[:0], kv.Key...), 0)
			d.moved++
			return m.add(len(kv.Key) + len(kv.Value))
		})
		if errors.Is(err, errRenew) {
			return errPage
		}
		return err
	})
}

// Events visits the entries of the log from the compact revision up to the dump's revision, in order, with the new
// values. In the entry at the compact revision, what it replaced must not be used.
func (d *Dump) Events(ctx context.Context, visit func(e *revlog.Entry) error) error {
	return d.EventsFrom(ctx, max(d.Compact, 0), visit)
}

// EventsFrom is Events from a revision on that is not below the compact revision.
func (d *Dump) EventsFrom(ctx context.Context, from int64, visit func(e *revlog.Entry) error) error {
	return d.LogFrom(ctx, from, 0, visit)
}

// LogFrom is EventsFrom, except that it leaves values that are kept apart and have less than so many bytes unread
// (KV.Unread). Values reads them.
func (d *Dump) LogFrom(ctx context.Context, from int64, unread int, visit func(e *revlog.Entry) error) error {
	p := logPage{from: from, unread: unread, entries: dumpPageEntries, visit: visit}
	return d.pages(ctx, func(snap engine.Snapshot) error {
		if p.from > d.Rev {
			return nil
		}
		before := p.from
		err := d.page(ctx, snap, &p)
		switch {
		case errors.Is(err, engine.ErrTooOld) && p.from == before: // the page takes longer than a state lives
			p.entries = max(1, p.entries/dumpPageShrink)
		case err == nil && p.from <= d.Rev:
			p.entries = min(2*p.entries, dumpPageEntries)
			return errPage
		}
		return err
	})
}

// logPage is a part of the log that is read in one state.
type logPage struct {
	from    int64 // moves on with what is visited
	unread  int   // size from which values are read
	entries int   // at most
	visit   func(e *revlog.Entry) error
}

// page visits a part of the log.
func (d *Dump) page(ctx context.Context, snap engine.Snapshot, p *logPage) error {
	head, err := d.s.headOf(ctx, snap)
	if err != nil {
		return err
	}
	it := d.s.scanFrom(ctx, snap, p.from)
	defer it.Close() // readLog returns its error, unless something has been read
	payloads, next, err := d.s.readLog(it, head, p.from, p.from, p.entries, dumpPageBytes)
	if err != nil {
		return err
	}
	begin := time.Now()
	for len(payloads) > 0 && payloads[0].Rev <= d.Rev {
		batch, wanted, err := d.parse(payloads, p.unread)
		if err != nil {
			return err
		}
		if err := d.fill(ctx, snap, wanted); err != nil {
			return err
		}
		for i := range batch {
			if err := p.visit(&batch[i]); err != nil {
				return err
			}
			d.moved++
			p.from = batch[i].Rev + 1
		}
		if payloads = payloads[len(batch):]; time.Since(begin) >= dumpPageTime {
			return nil
		}
	}
	p.from = next
	return nil
}

// parse decodes as many entries as name valuesBytesMax of new values that are to be read, at least one, up to the
// dump's revision. Those values have unread bytes or more.
func (d *Dump) parse(payloads []revlog.Payload, unread int) (batch []revlog.Entry, values []*revlog.KV, err error) {
	for bytes := 0; len(batch) < len(payloads) && payloads[len(batch)].Rev <= d.Rev && bytes < valuesBytesMax; {
		e, err := d.s.Parse(payloads[len(batch)])
		if err != nil {
			return nil, nil, err
		}
		for i := range e.Events {
			if kv := &e.Events[i].KV; kv.Unread() && kv.Size >= unread {
				bytes += kv.Size
				values = append(values, kv)
			}
		}
		batch = append(batch, e)
	}
	return batch, values, nil
}

// fill reads values together: on an engine over a network that is one round trip and not one for each.
func (d *Dump) fill(ctx context.Context, snap engine.Snapshot, unread []*revlog.KV) error {
	values := make([][]byte, len(unread))
	for done := 0; done < len(unread); {
		n, err := d.s.readSome(ctx, snap, unread[done:], values[done:])
		if err != nil {
			return err
		}
		done += n
	}
	for i, kv := range unread {
		if kv.Value = values[i]; kv.Value == nil {
			return ErrCorrupt
		}
	}
	return nil
}

// LeaseGone is the time to live in seconds that Leases reports for a lease that is ending, or that has ended since the
// dump's revision while keys were attached to it there.
const LeaseGone = 1

// Leases visits the leases in the order of their ids. They are the leases at a moment after the dump's revision,
// because time does not stand still. A lease that ended in between is visited too if keys that are live at the revision
// name it, with LeaseGone, because these keys will be deleted soon. named are the leases that the versions name, or
// more. The leases are held in memory, some 100 bytes each.
func (d *Dump) Leases(ctx context.Context, named []int64, visit func(id, ttl int64) error) error {
	ttls := map[int64]int64{}
	if err := d.readLeases(ctx, ttls); err != nil {
		return err
	}
	unknown := func(id int64) bool { _, ok := ttls[id]; return !ok }
	if slices.ContainsFunc(named, unknown) {
		err := d.Live(ctx, func(kv *KV) error {
			if kv.Lease != 0 && unknown(kv.Lease) {
				ttls[kv.Lease] = LeaseGone
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	ids := make([]int64, 0, len(ttls))
	for id := range ttls {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b int64) int { // the order of their rows
		return bytes.Compare(
			binary.BigEndian.AppendUint64(nil, uint64(a)),
			binary.BigEndian.AppendUint64(nil, uint64(b)),
		)
	})
	for _, id := range ids {
		if err := visit(id, ttls[id]); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dump) readLeases(ctx context.Context, ttls map[int64]int64) error {
	return d.s.Leases(ctx, func(id, ttl int64) error {
		if ttl == LeaseEnding {
			ttl = LeaseGone
		}
		ttls[id] = ttl
		return nil
	})
}
