package mvcc

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// On an engine that bounds transactions, a revision of the source may not fit into one. It is then written in parts
// (FeatureParts). The first transaction sets the feature in the head row, so that no state up to the last part can be
// read: none of them is one of the source's. Reads wait for the end (awaitWhole). Next come the rows that the revision
// adds without replacing others: its log entry and its larger values. Then each part changes the records of some keys,
// and the last one moves the head and removes the feature. The row meta/parts says how far this is. Whoever replays the
// same revision goes on with it, and nothing else can be replayed before.

// metaParts is the name of the row of a revision that is being written in parts.
const metaParts = "parts"

// Bounds of a revision that is written in parts.
const (
	// partsEntryMax bounds the log entry of the revision, which is in memory here and with each reader of the log.
	partsEntryMax = 256 << 20
	// partEvents bounds the events of a part: the keys are read in its transaction.
	partEvents = 4096
	// partShare is how much of a transaction a part fills: 1/partShare.
	partShare = 3
	// planEvents bounds the events that are planned in one state.
	planEvents = 4096
	// wholeWait is how long a read waits for the end of such a revision before it fails (Store.wholeWait).
	wholeWait = 5 * time.Second
)

var (
	// ErrUnfinished: a large revision of the source is being written, and the keyspace cannot be read until that is
	// done.
	ErrUnfinished = errors.New("mvcc: a large revision of the source is being written")
	// ErrUnfollowable: a revision is too large to be replayed. A new copy of the source can have it.
	ErrUnfollowable = errors.New("mvcc: the revision is too large to be followed")
)

// parts writes one revision in parts. It is used by one goroutine.
type parts struct {
	s        *Store
	r        *ReplayRevision
	head     int64
	features Features
	at       partsAt
	rows     []keptRow // to be added; nil: they have been
	max      int       // bytes of a transaction
	counted  bool
}

// replayParts replays one revision that does not fit into a transaction, or goes on with it. It returns the head. If
// the revision is there, nothing happens. Errors: as Replay.
func (s *Store) replayParts(ctx context.Context, r *ReplayRevision) (head int64, err error) {
	p := &parts{s: s, r: r, max: max(1, s.limits.TxnBytes/partShare)}
	began, err := p.look(ctx)
	switch {
	case err != nil || p.head >= r.Rev:
		return p.head, err
	case !began && !p.features.Has(FeatureValues):
		return 0, ErrTooLarge // the log would have copies of values
	}
	err = p.write(ctx, began)
	if errors.Is(err, ErrOvertaken) {
		return 0, fmt.Errorf("%w: somebody else goes on with revision %d", ErrUnfinished, r.Rev)
	}
	if err != nil {
		return 0, err
	}
	s.Told(r.Rev)
	s.recentHead.knew(r.Rev)
	s.usage.Groups.Add(1)
	s.usage.Events.Add(int64(len(r.Events)))
	if p.counted {
		s.keeper.wake()
	}
	if s.o.Committed != nil {
		s.o.Committed()
	}
	return p.head, nil
}

// write writes the revision, or the rest of it. Errors: ErrOvertaken, others as Replay.
func (p *parts) write(ctx context.Context, began bool) (err error) {
	if began && p.at.applying {
		err = p.takeOver(ctx)
	} else {
		err = p.begin(ctx, began)
	}
	if err == nil {
		err = p.addRows(ctx)
	}
	for err == nil && p.head < p.r.Rev {
		err = p.apply(ctx)
	}
	return err
}

// look reads the state of the keyspace, and says whether the revision has been begun.
func (p *parts) look(ctx context.Context) (began bool, err error) {
	s := p.s
	err = s.view(ctx, func(snap engine.Snapshot) error {
		rows, err := snap.GetMany(ctx, [][]byte{s.headRow, s.rows.meta(metaParts)})
		if err != nil {
			return err
		}
		st, features, err := parseHeadRow(rows[0])
		if err != nil {
			return err
		}
		p.head, p.features, began = s.meta.Space.Of(st), features, features.Has(FeatureParts)
		switch {
		case !features.Has(FeatureFollows):
			return ErrNotFollowing
		case !began:
			return nil
		}
		p.at, err = parsePartsAt(rows[1])
		return err
	})
	if err != nil || !began || p.head >= p.r.Rev {
		return false, err
	}
	switch {
	case p.at.rev < p.r.Rev:
		return false, fmt.Errorf("%w: revision %d comes before %d", ErrGap, p.at.rev, p.r.Rev)
	case p.at.rev > p.r.Rev, p.at.digest != digestOf(p.r):
		return false, fmt.Errorf("%w: revision %d was begun as another one", ErrDiverged, p.at.rev)
	case p.at.done < 0 || p.at.done >= int64(len(p.r.Events)):
		return false, fmt.Errorf("%w: %d of %d events of revision %d have been carried out", ErrCorrupt, p.at.done,
			len(p.r.Events), p.at.rev)
	case p.at.inline != int64(s.o.InlineBytes):
		return false, fmt.Errorf("%w: another release has begun revision %d", ErrUnfinished, p.at.rev)
	}
	return true, nil
}

// begin plans the revision, and sets the feature or takes over from who has set it.
func (p *parts) begin(ctx context.Context, began bool) error {
	s := p.s
	if m := (&replay{revs: []ReplayRevision{*p.r}}); !began && m.grows() && s.noSpace.Load() {
		return ErrNoSpace
	}
	entry, err := p.plan(ctx)
	if err != nil {
		return err
	}
	if began {
		if entry != p.at.entry {
			return fmt.Errorf("%w: the log entry of revision %d has %d bytes, and had %d", ErrCorrupt, p.r.Rev, entry,
				p.at.entry)
		}
		if p.at.added < 0 || p.at.added > int64(len(p.rows)) {
			return ErrCorrupt
		}
		p.rows = p.rows[p.at.added:]
		return p.takeOver(ctx)
	}
	p.at = partsAt{
		digest: digestOf(p.r), rev: p.r.Rev, inline: int64(s.o.InlineBytes), entry: entry,
	}
	rand.Read(p.at.who[:])
	name, row := s.rows.meta(metaParts), p.at.row()
	return s.update(ctx, func(txn engine.Txn) error {
		rows, err := txn.GetMany(ctx, [][]byte{s.headRow, name})
		if err != nil {
			return err
		}
		st, features, err := parseHeadRow(rows[0])
		switch {
		case err != nil:
			return err
		case features.Has(FeatureParts) && bytes.Equal(rows[1], row):
			return nil // an earlier run has been committed
		case features != p.features || s.meta.Space.Of(st) != p.head:
			return ErrOvertaken
		}
		head, _ := headRow(features|FeatureParts, st)
		txn.Set(s.headRow, head)
		txn.Set(name, row)
		return nil
	})
}

// takeOver makes this the only one that goes on.
func (p *parts) takeOver(ctx context.Context) error {
	to := p.at
	rand.Read(to.who[:])
	return p.step(ctx, func(engine.Txn) (partsAt, int64, error) { return to, 0, nil })
}

// step is one transaction, which may be run again. f returns how far the revision is with it, and by how much the live
// bytes grow. If f has moved the head, the row of the revision goes.
func (p *parts) step(ctx context.Context, f func(engine.Txn) (partsAt, int64, error)) error {
	s, name := p.s, p.s.rows.meta(metaParts)
	var next partsAt
	var tried []byte
	grown := int64(0)
	err := s.update(ctx, func(txn engine.Txn) error {
		rows, err := txn.GetMany(ctx, [][]byte{s.headRow, name})
		if err != nil {
			return err
		}
		st, features, err := parseHeadRow(rows[0])
		switch {
		case err != nil:
			return err
		case tried != nil && (bytes.Equal(rows[1], tried) || next.rev == 0 && s.meta.Space.Of(st) >= p.r.Rev):
			return errNothing // an earlier run has been committed
		case !bytes.Equal(rows[1], p.at.row()):
			return ErrOvertaken
		}
		p.features = features // some may have been activated meanwhile
		if next, grown, err = f(txn); err != nil {
			return err
		}
		if tried = next.row(); next.rev == 0 {
			txn.Clear(name)
		} else {
			txn.Set(name, tried)
		}
		if p.features.Has(FeatureSizes) && grown != 0 {
			txn.Add(s.sizeRow, grown)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNothing) {
		return err
	}
	s.grew(p.features, grown)
	if p.at = next; next.rev == 0 {
		p.head = p.r.Rev
	}
	return nil
}

// addRows writes the rows that the revision adds.
func (p *parts) addRows(ctx context.Context) error {
	im := Import{far: &farImport{max: p.max}}
	for len(p.rows) > 0 {
		n := im.fitting(p.rows)
		part := p.rows[:n]
		err := p.step(ctx, func(txn engine.Txn) (partsAt, int64, error) {
			grown := int64(0)
			for i := range part {
				part[i].write(txn)
				grown += p.s.rows.bytes(part[i].key, len(part[i].value))
			}
			to := p.at
			to.added += int64(n)
			to.applying = n == len(p.rows)
			return to, grown, nil
		})
		if err != nil {
			return err
		}
		p.rows = p.rows[n:]
	}
	return nil
}

// apply carries out the next events, and with the last ones moves the head.
func (p *parts) apply(ctx context.Context) error {
	left := p.r.Events[p.at.done:]
	n := p.fitting(left)
	for {
		err := p.step(ctx, func(txn engine.Txn) (partsAt, int64, error) { return p.part(ctx, txn, left[:n]) })
		if !errors.Is(err, ErrTooLarge) || n == 1 {
			return err
		}
		n /= 2
	}
}

// part is the transaction of apply.
func (p *parts) part(ctx context.Context, txn engine.Txn, events []revlog.Event) (to partsAt, grown int64, err error) {
	g, err := p.group(ctx, txn, events)
	if err == nil {
		err = g.loadBucketsExactly(ctx)
	}
	if err != nil {
		return to, 0, err
	}
	grown = g.buildPart(txn, p.at.offset)
	p.counted = p.counted || g.counted > 0
	to = p.at
	to.done += int64(len(events))
	to.offset += int64(len(g.buf))
	if to.done < int64(len(p.r.Events)) {
		return to, grown, nil
	}
	if to.offset != p.at.entry {
		return to, 0, fmt.Errorf("%w: the events of revision %d have %d bytes, and their log entry has %d", ErrCorrupt,
			p.r.Rev, to.offset, p.at.entry)
	}
	st := p.s.meta.Space.Stamp(p.r.Rev)
	row, _ := headRow(p.features&^FeatureParts, st)
	txn.Set(p.s.headRow, row)
	if b := p.s.o.Beside; b != nil {
		txn.Set(b.Head, appendBesideHead(nil, p.s.meta.Space, st))
		txn.Set(b.Bell, st.Append(nil))
	}
	return partsAt{}, grown, nil
}

// group evaluates some of the events of the revision in a reader's state.
func (p *parts) group(ctx context.Context, r engine.Reader, events []revlog.Event) (*group, error) {
	g := newGroup(p.s, r, len(events), 0)
	g.head, g.rev, g.features, g.given = p.head, p.head, p.features, p.r.Rev
	keys := make([][]byte, len(events))
	for i := range events {
		keys[i] = events[i].KV.Key
	}
	if p.features.Has(FeatureCounts) {
		if _, err := g.readStates(ctx, keys, [][]byte{p.s.bucketsRow}); err != nil {
			return nil, err
		}
	} else if err := g.loadStates(ctx, keys); err != nil {
		return nil, err
	}
	m := &replay{}
	err := m.check(ctx, g, []ReplayRevision{{Rev: p.r.Rev, After: p.r.After, Events: events}}, p.head)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, m.why)
	}
	if err := m.apply(ctx, g, events); err != nil {
		return nil, err
	}
	g.end()
	return g, nil
}

// plan makes the rows that the revision adds. It returns the length of the log entry.
func (p *parts) plan(ctx context.Context) (entry int64, err error) {
	if key := twice(p.r.Events); key != nil {
		return 0, fmt.Errorf("%w: revision %d changes %q twice", ErrDiverged, p.r.Rev, key)
	}
	var payload []byte
	rows := &keptRows{}
	live := int64(0)
	b := importBatch{im: &Import{s: p.s}, w: importWriter{s: p.s, txn: rows, live: &live}}
	var values []keptRow
	for events := range slices.Chunk(p.r.Events, planEvents) {
		err := p.s.viewAny(ctx, func(snap engine.Snapshot) error {
			if err := p.unmoved(ctx, snap); err != nil {
				return err
			}
			g, err := p.group(ctx, snap, events)
			if err != nil {
				return err
			}
			if len(payload)+len(g.buf) > partsEntryMax {
				return fmt.Errorf("%w: revision %d has a log entry of more than %d MiB", ErrUnfollowable, p.r.Rev,
					partsEntryMax>>20)
			}
			payload = append(payload, g.buf...)
			for i := range g.events {
				if ev := &g.events[i].ev; !ev.Delete {
					b.value(ev)
				}
			}
			values, rows.list = append(values, rows.list...), rows.list[:0]
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	if chunksOf(len(payload), p.s.meta.ChunkBytes) > chunksMax {
		return 0, fmt.Errorf("%w: revision %d", ErrUnfollowable, p.r.Rev)
	}
	b.log(p.r.Rev, payload)
	p.rows = slices.Concat(rows.list, values)
	return int64(len(payload)), nil
}

// unmoved makes sure that a reader's state is the one that look has read: what another one has written meanwhile does
// not come before the revision. Errors: ErrOvertaken.
func (p *parts) unmoved(ctx context.Context, r engine.Reader) error {
	rows, err := r.GetMany(ctx, [][]byte{p.s.headRow, p.s.rows.meta(metaParts)})
	if err != nil {
		return err
	}
	st, features, err := parseHeadRow(rows[0])
	if err != nil {
		return err
	}
	var at []byte // nil: the revision has not been begun
	if p.at.rev != 0 {
		at = p.at.row()
	}
	if p.s.meta.Space.Of(st) != p.head || features.Has(FeatureParts) != (at != nil) || !bytes.Equal(rows[1], at) {
		return ErrOvertaken
	}
	return nil
}

// twice returns a key that the events change twice, or nil. Those of a deleted range or lease are mostly in order.
func twice(events []revlog.Event) []byte {
	ordered := true
	for i := 1; i < len(events) && ordered; i++ {
		ordered = bytes.Compare(events[i-1].KV.Key, events[i].KV.Key) < 0
	}
	if ordered {
		return nil
	}
	seen := make(map[string]struct{}, len(events))
	for i := range events {
		if _, there := seen[string(events[i].KV.Key)]; there {
			return events[i].KV.Key
		}
		seen[string(events[i].KV.Key)] = struct{}{}
	}
	return nil
}

// fitting is how many of the events fit into a part, at least one.
func (p *parts) fitting(events []revlog.Event) (n int) {
	z := partSize{s: p.s}
	for n < len(events) && n < partEvents {
		if z.add(&events[n]); n > 0 && z.Bytes() > p.max {
			break
		}
		n++
	}
	return n
}

// partSize is about what the events of a part add to its transaction.
type partSize struct {
	txnsize.Size
	s *Store
}

func (z *partSize) add(ev *revlog.Event) {
	z.Root = z.s.limits.RootBytes
	plain := len(z.s.rows.prefix) + 1 + len(ev.KV.Key)
	const id = 8
	z.ReadKey(plain)
	z.Set(plain, recordBytes+min(len(ev.KV.Value), z.s.o.InlineBytes))
	z.Set(len(z.s.rows.hist(nil, ev.KV.Key, engine.Stamp{})), recordBytes)
	z.Clear(plain + id)
	if ev.KV.Lease != 0 {
		z.Set(plain+id, 0)
	}
}

// tooLarge says for certain that a replay of one revision does not fit into a transaction.
func (m *replay) tooLarge(s *Store) bool {
	limit := s.txnBytes()
	if limit == 0 || len(m.revs) != 1 {
		return false
	}
	var z txnsize.Size
	bytes := 0
	m.each(func(ev *revlog.Event) {
		z.Root = s.limits.RootBytes
		z.ReadKey(len(s.rows.prefix) + 1 + len(ev.KV.Key))
		z.Clear(len(s.rows.prefix) + 1 + len(ev.KV.Key))
		bytes += len(ev.KV.Key) + len(ev.KV.Value)
	})
	return z.Bytes()+bytes > limit
}

// buildPart writes the records of the keys that the group changes, without the log entry and the larger values, which
// are there. The first event is at offset in the entry. It returns by how much the live bytes grow.
func (g *group) buildPart(txn engine.Txn, offset int64) (grown int64) {
	w := rowWriter{g: g, txn: givenStamps{txn, g}}
	g.changes.Ascend(func(st *keyState) bool {
		w.idx(st)
		return true
	})
	g.changes.Ascend(func(st *keyState) bool {
		w.attachment(st)
		return true
	})
	for i := range g.entries {
		g.entries[i].start -= int(offset)
	}
	for _, r := range g.replacements() {
		w.hist(r)
	}
	w.counters()
	return w.grown
}
