package mvcc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revision"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Limits of one transaction of an import. A revision is never cut.
const (
	importBytes  = 4 << 20
	importEvents = 4096
)

// ImportOptions describe what an Import gets.
type ImportOptions struct {
	// Prefix begins the key of every row.
	Prefix []byte
	// Compact is the compact revision, or -1.
	Compact int64
	// Superseded says that there are versions below the compact revision that were replaced or deleted before it, and
	// tombstones. The import leaves them out. Otherwise there must be none.
	Superseded bool
	// AuthNumber is the number of the users and roles (auth.State). AuthRows are their rows. If there are no rows, and
	// the number is 0 or that of a keyspace whose users and roles have never been changed, the keyspace gets none.
	AuthNumber uint64
	AuthRows   []AuthRow
	// Follow, if set, makes the keyspace follow its source.
	Follow *Follow
	// Alarms are the names of the alarms that are set (Store.Alarms).
	Alarms []string

	// The rest is for an engine with other writers, whose commits make the versions of stamps.

	// Head is the greatest head that Finish may be told.
	Head int64
	// Source says what is imported: an Import of the same goes on where one before it was interrupted. Without it none
	// does.
	Source []byte
	// Beside are those of the Stores that will open the keyspace.
	Beside *Beside
}

// auth says whether users and roles are imported.
func (o *ImportOptions) auth() bool { return o.AuthNumber > authNone || len(o.AuthRows) > 0 }

// Import writes a keyspace that does not exist yet, with revisions of its own. What it writes counts with Finish only:
// until then there is no keyspace. It is used by one goroutine, and after an error no more.
type Import struct {
	s      *Store // used only to write rows: nothing runs
	o      ImportOptions
	live   int64 // bytes
	events []importEvent
	size   int
	last   int64      // revision
	taken  int64      // events of Add
	upTo   int64      // those of them that a flush would write, or that are there
	far    *farImport // on an engine with other writers
}

type importEvent struct {
	rev int64
	ev  revlog.Event
}

// NewImport begins an import, or goes on with one. Errors: that there are rows already, ErrOtherImport, ErrAhead (the
// database is too young for the revisions), ErrUnavailable, the context's.
func NewImport(ctx context.Context, eng engine.Store, o ImportOptions) (*Import, error) {
	limits := eng.Limits()
	var own Options
	own.Prefix = o.Prefix
	own.ensureDefaults(limits)
	s := &Store{eng: engine.Domain(eng, o.Prefix), o: own, limits: limits, rows: rows{prefix: o.Prefix}}
	s.room = s.rows.roomOf(limits)
	var id [8]byte
	rand.Read(id[:])
	id[0] &= 0x7f // like the id of any keyspace
	id[7] |= 1
	s.meta = Meta{
		ClusterID: binary.BigEndian.Uint64(id[:]), Space: revision.Space{}, ChunkBytes: own.ChunkBytes,
		Features: FeaturesAll,
	}
	if o.Beside != nil {
		s.meta.Features |= FeatureKeyspaces
	}
	s.sawFeatures(s.meta.Features)
	im := &Import{s: s, o: o}
	if !limits.Dense {
		return im, im.beginFar(ctx, own.Shift)
	}
	s.use(s.meta.Space)
	err := s.update(ctx, func(txn engine.Txn) error {
		if err := refuseRows(ctx, txn, s.rows); errors.Is(err, ErrCorrupt) {
			return errors.New("mvcc: an import needs a store without rows")
		} else if err != nil {
			return err
		}
		return errNothing
	})
	if !errors.Is(err, errNothing) {
		return nil, err
	}
	return im, nil
}

// use has the Store number in a space.
func (s *Store) use(space revision.Space) {
	s.meta.Space = space
	s.refs = revlog.RowRevs{Space: space}
	s.codec = revlog.Codec{RowRevs: s.refs}
}

// Add takes an event in: those of one revision in their order, revisions in theirs. The version of a put must be whole.
// Nothing of the event is kept. Errors: ErrTooLarge, ErrTwice, ErrOvertaken, ErrUnavailable, the context's.
func (im *Import) Add(ctx context.Context, rev int64, ev *revlog.Event) error {
	if im.taken++; im.taken <= im.there() {
		im.last, im.upTo = rev, im.taken
		return nil
	}
	if events, size := im.batch(); rev != im.last && (len(im.events) >= events || im.size >= size) {
		if err := im.flush(ctx); err != nil {
			return err
		}
	}
	im.last = rev
	if !ev.Delete {
		if err := im.s.storable(ev); err != nil {
			return err
		}
	}
	im.upTo = im.taken
	if rev < im.o.Compact && !im.o.Superseded && ev.Delete {
		return nil
	}
	own := *ev
	own.KV.Key, own.KV.Value = bytes.Clone(ev.KV.Key), bytes.Clone(ev.KV.Value)
	own.KV.Mod = rev
	if chunksOf(len(own.KV.Value), im.s.meta.ChunkBytes) > chunksMax {
		return ErrTooLarge
	}
	if len(own.KV.Value) > im.s.o.InlineBytes {
		own.KV.Place, own.KV.Size = revlog.PlaceOwn, len(own.KV.Value)
	}
	im.events = append(im.events, importEvent{rev, own})
	im.size += len(own.KV.Key) + len(own.KV.Value)
	return nil
}

// batch is how much is written at a time.
func (im *Import) batch() (events, size int) {
	if im.far != nil {
		return im.far.events, farBytes
	}
	return importEvents, importBytes
}

// importBatch is what is written at a time.
type importBatch struct {
	im     *Import
	w      importWriter
	states map[string]*importState
}

// importWriter writes rows and counts their bytes.
type importWriter struct {
	s    *Store
	txn  importRows
	live *int64
}

// importRows takes rows.
type importRows interface {
	Set(key, value []byte)
	Clear(key []byte)
	ClearRange(begin, end []byte)
}

func (w importWriter) set(k, v []byte) {
	w.txn.Set(k, v)
	*w.live += w.s.rows.bytes(k, len(v))
}

// importState is a key.
type importState struct {
	key  []byte
	rec  record
	live bool
	was  record // the record in its row
	row  int    // length of that; 0: there is none
	made int    // length of the row that has been made
	at   int64  // the last revision that has changed it, in this batch; a revision is never in two
}

// ErrTwice: a keyspace cannot hold a key that changes twice in one revision.
var ErrTwice = errors.New("mvcc: a key is changed twice in one revision")

// flush writes the events that have been gathered.
func (im *Import) flush(ctx context.Context) error {
	if len(im.events) == 0 {
		return nil
	}
	states, err := im.states(ctx)
	if err != nil {
		return err
	}
	live := im.live
	err = im.write(ctx, states, func(rows importRows) error {
		im.live = live
		b := &importBatch{im: im, states: states, w: importWriter{s: im.s, txn: rows, live: &im.live}}
		for i := 0; i < len(im.events); {
			n := i
			for n < len(im.events) && im.events[n].rev == im.events[i].rev {
				n++
			}
			if err := b.revision(im.events[i:n]); err != nil {
				return err
			}
			i = n
		}
		return b.index()
	})
	clear(im.events)
	im.events, im.size = im.events[:0], 0
	return err
}

// write writes what f makes.
func (im *Import) write(ctx context.Context, states map[string]*importState, f func(importRows) error) error {
	if im.far != nil {
		return im.writeFar(ctx, states, f)
	}
	return im.s.commit(ctx, func(txn engine.Txn) error { return f(txn) })
}

// commit runs a transaction once.
func (s *Store) commit(ctx context.Context, f func(engine.Txn) error) error {
	return storeErr(s.tryUpdate(ctx, f))
}

// states reads the keys of the events. If a version is below the compact revision, it is the only one of its key.
func (im *Import) states(ctx context.Context) (map[string]*importState, error) {
	states := map[string]*importState{}
	var list []*importState
	var rows [][]byte
	for i := range im.events {
		e := &im.events[i]
		if _, there := states[string(e.ev.KV.Key)]; there {
			continue
		}
		st := &importState{key: e.ev.KV.Key}
		states[string(st.key)] = st
		switch {
		case e.rev <= im.o.Compact && !im.o.Superseded:
		case im.far.has(st):
		default:
			list, rows = append(list, st), append(rows, im.s.rows.idx(nil, st.key))
		}
	}
	if len(rows) == 0 {
		return states, nil
	}
	rows = append(rows, im.s.rows.meta(metaImport))
	return states, im.s.view(ctx, func(snap engine.Snapshot) error {
		found, err := snap.GetMany(ctx, rows)
		if err == nil {
			err = im.far.own(found[len(list)])
		}
		if err != nil {
			return err
		}
		found = found[:len(list)]
		for i, row := range found {
			if row == nil {
				continue
			}
			st := list[i]
			if err := parseRecord(row, im.s.refs, &st.rec); err != nil {
				return err
			}
			st.rec.value = bytes.Clone(st.rec.value)
			st.live, st.was, st.row = true, st.rec, len(row)
		}
		return nil
	})
}

// revision writes what the events of one revision need, except the records of their keys.
func (b *importBatch) revision(events []importEvent) error {
	rev := events[0].rev
	var payload []byte
	for i := range events {
		ev := &events[i].ev
		st := b.states[string(ev.KV.Key)]
		if st.at == rev {
			return fmt.Errorf("%w: key %q in revision %d", ErrTwice, ev.KV.Key, rev)
		}
		st.at = rev
		switch {
		case rev > b.im.o.Compact && st.live:
			ev.HasPrev, ev.Prev = true, st.version()
		case rev > b.im.o.Compact && ev.Delete:
			return fmt.Errorf("mvcc: revision %d deletes a key that does not exist", rev)
		case st.live: // superseded at or before the compact revision
			b.forget(st)
		}
		b.value(ev)
		if rev >= b.im.o.Compact {
			var at revlog.Offsets
			payload, at = b.im.s.codec.AppendEvent(payload, ev, rev)
			b.hist(ev, at)
		}
		st.apply(ev)
	}
	if rev >= b.im.o.Compact {
		b.log(rev, payload)
	}
	return nil
}

func (st *importState) apply(ev *revlog.Event) {
	if st.live = !ev.Delete; !st.live {
		st.rec = record{}
		return
	}
	kv := &ev.KV
	st.rec = record{
		create: kv.Create, mod: kv.Mod, version: kv.Version, lease: kv.Lease, size: len(kv.Value), place: kv.Place,
	}
	if st.rec.inline() {
		st.rec.value = kv.Value
	}
}

// version returns the version of the key in the form for the event that replaces it.
func (st *importState) version() KV {
	r := &st.rec
	kv := KV{Key: st.key, Create: r.create, Mod: r.mod, Version: r.version, Lease: r.lease, Value: r.value}
	if !r.inline() {
		kv.Place, kv.Size = r.place, r.size
	}
	return kv
}

// forget removes the value of a version that nobody can read any more.
func (b *importBatch) forget(st *importState) {
	if st.rec.inline() {
		return
	}
	s, ref := b.im.s, st.rec.ref(st.key)
	b.w.txn.ClearRange(s.valRow(nil, &ref, 0), s.valRow(nil, &ref, chunksOf(ref.Size, s.meta.ChunkBytes)))
	b.im.live -= s.valBytes(&ref)
}

// value writes a value that is kept apart.
func (b *importBatch) value(ev *revlog.Event) {
	if ev.KV.Place != revlog.PlaceOwn {
		return
	}
	s := b.im.s
	for n, part := range slices.Collect(slices.Chunk(ev.KV.Value, s.meta.ChunkBytes)) {
		b.w.set(s.rows.valChunk(nil, ev.KV.Key, s.meta.Space.Stamp(ev.KV.Mod), n), part)
	}
}

func (b *importBatch) hist(ev *revlog.Event, at revlog.Offsets) {
	if !ev.HasPrev {
		return
	}
	p, s := &ev.Prev, b.im.s
	was := replaced{
		create: p.Create, mod: p.Mod, version: p.Version, lease: p.Lease, size: p.Bytes(), at: prevOffset(p, at.Prev),
	}
	row := s.rows.hist(nil, p.Key, s.meta.Space.Stamp(ev.KV.Mod))
	b.w.set(row, appendReplaced(nil, s.refs, &was, ev.KV.Mod))
}

func (b *importBatch) log(rev int64, payload []byte) {
	s := b.im.s
	at, size := s.meta.Space.Stamp(rev), s.meta.ChunkBytes
	for n := range max(1, chunksOf(len(payload), size)) {
		part := payload[n*size : min((n+1)*size, len(payload))]
		if n == 0 {
			part = append(binary.AppendUvarint(nil, uint64(len(payload))), part...)
		}
		b.w.set(s.rows.logPart(at, n), part)
	}
}

// index writes the final records of the keys.
func (b *importBatch) index() error {
	s := b.im.s
	for _, st := range b.states {
		k := s.rows.idx(nil, st.key)
		if st.row > 0 {
			b.im.live -= s.rows.bytes(k, st.row)
		}
		if st.was.lease != 0 && (!st.live || st.rec.lease != st.was.lease) {
			row := s.rows.leaseKey(st.was.lease, st.key)
			b.w.txn.Clear(row)
			b.im.live -= s.rows.bytes(row, 0)
		}
		switch {
		case !st.live && st.row > 0:
			b.w.txn.Clear(k)
		case st.live:
			v := appendRecord(nil, s.refs, &st.rec)
			st.made = len(v)
			b.w.set(k, v)
			if st.rec.lease != 0 && st.rec.lease != st.was.lease {
				b.w.set(s.rows.leaseKey(st.rec.lease, st.key), nil)
			}
		}
	}
	return nil
}

// ImportLease is a lease to be imported, with its time to live in seconds.
type ImportLease struct{ ID, TTL int64 }

// Finish writes the leases, users and roles, and what makes a keyspace of it all: its revision is head then, and the
// next one is above. Errors: as Add.
func (im *Import) Finish(ctx context.Context, head int64, leases []ImportLease) error {
	if err := im.flush(ctx); err != nil {
		return err
	}
	s := im.s
	if err := im.landed(); err != nil {
		return err
	}
	for part := range slices.Chunk(leases, importEvents) {
		err := im.write(ctx, nil, func(rows importRows) error {
			w := importWriter{s: s, txn: rows, live: &im.live}
			for _, l := range part {
				w.set(s.rows.lease(nil, l.ID), binary.BigEndian.AppendUint64(nil, uint64(l.TTL)))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := im.authRows(ctx); err != nil {
		return err
	}
	if im.far != nil {
		return im.finishFar(ctx, head, len(leases) > 0)
	}
	return s.commit(ctx, func(txn engine.Txn) error {
		skip, ok := txn.(engine.StampSkipper)
		if !ok {
			return errors.New("mvcc: the engine cannot continue after a given revision")
		}
		skip.SkipStamps(uint64(head))
		im.identity(txn, head)
		return nil
	})
}

// authRows writes users and roles.
func (im *Import) authRows(ctx context.Context) error {
	if im.o.auth() {
		im.s.meta.Features |= FeatureAuth
	}
	for rows := im.o.AuthRows; len(rows) > 0; {
		n := 0
		for size := 0; n < len(rows) && size < importBytes && n < importEvents; n++ {
			size += len(rows[n].Key) + len(rows[n].Value)
		}
		err := im.write(ctx, nil, func(txn importRows) error {
			for _, r := range rows[:n] {
				txn.Set(append(im.s.rows.table(nil, tableAuth), r.Key...), r.Value)
			}
			return nil
		})
		if err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// identity writes the rows that a keyspace has of itself.
func (im *Import) identity(txn importRows, head int64) {
	s := im.s
	if im.o.Follow != nil {
		s.meta.Features |= FeatureFollows
		txn.Set(s.rows.meta(metaFollow), im.o.Follow.append(nil))
	}
	v := engine.Stamp{Version: uint64(s.meta.Space.Base) + 1}.Append(nil) // as if it had been made there
	v = append(v, formatFeatures, byte(s.meta.Space.Shift))
	v = binary.BigEndian.AppendUint32(v, uint32(s.meta.ChunkBytes))
	v = binary.BigEndian.AppendUint64(v, s.meta.ClusterID)
	txn.Set(s.rows.meta(metaKeyspace), binary.BigEndian.AppendUint64(v, uint64(s.meta.Features)))
	row, _ := headRow(s.meta.Features, s.meta.Space.Stamp(head))
	txn.Set(s.rows.head(), row)
	if im.o.auth() {
		txn.Set(s.rows.meta(metaAuth), binary.BigEndian.AppendUint64(nil, max(im.o.AuthNumber, authNone)))
	}
	for _, name := range im.o.Alarms {
		txn.Set(s.rows.meta(metaAlarm+name), nil)
	}
	if im.o.Compact >= 0 {
		txn.Set(s.rows.meta(metaCompact), appendRev(nil, im.o.Compact))
		txn.Set(s.rows.meta(metaCompacted), appendRev(nil, im.o.Compact))
	}
	txn.Set(s.rows.meta(metaLive), engine.AppendCounter(nil, im.live))
	newBuckets(txn, s.rows, bucketUncounted)
}

// ValueMax returns the length of the longest value in a keyspace whose chunks have so many bytes; 0: the default.
func ValueMax(chunkBytes int) int {
	if chunkBytes == 0 {
		chunkBytes = defaultChunk
	}
	return chunksMax * chunkBytes
}
