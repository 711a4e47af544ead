package mvcc

import (
	"bytes"
	"context"
	"errors"

	"github.com/google/btree"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// errNextGroup is the answer of a request that must see its group's commit first: it reads at the revision of an
// earlier request of the group. Only on a dense engine can a client name such a revision before it exists.
var errNextGroup = errors.New("mvcc: evaluate in the next group")

// mutation is a request that goes through group commit.
type mutation interface {
	// keys calls add for the keys whose records the request certainly needs.
	keys(add func(key []byte))
	// run evaluates the request. It must change nothing in g before it knows that it will succeed.
	run(ctx context.Context, g *group, res *Result) error
	// grows says whether the request is refused when space has run out.
	grows() bool
	// proves says whether the request usually makes a revision. Then the commit usually proves its group (see
	// group.proved).
	proves() bool
}

// group evaluates requests one after another against one engine transaction and an overlay of their own changes. It is
// the pure middle of a group commit: everything in it is single-threaded, and forgotten if the commit fails.
type group struct {
	s    *Store
	txn  engine.Reader
	head int64 // last revision at the transaction's read version
	// features are those of the keyspace in that state. A transaction that sets some conflicts with this one.
	features Features
	// needsHead says that an answer is only right if head was the head at some time during the request.
	needsHead bool
	auth      uint64  // number of users and roles there
	access    *Access // of the request under evaluation
	rev       int64   // last revision at this place of the group: head, or pending

	states   map[string]*keyState
	leases   map[int64]*leaseState
	ballots  map[int]uint64 // of the lease shards whose fences have been checked
	compact  int64          // compact revision, if loaded
	loaded   bool
	compacts bool // compact is to be written

	// given is the revision of the current request where that is not the commit's to make: see givenStamps.
	given int64

	entries []pendingEntry
	events  []pendingEvent
	buf     []byte // the encoded entries, one after the other
	open    bool   // the current request has an entry

	settled []revlog.Event // events with their final revisions

	// Slabs, so that memory is allocated per group and not per request. What they hand out does not move.
	stateSlab []keyState
	rowSlab   []byte

	ahead map[string][]byte // rows that were read in advance and belong to no key

	grown int64 // by how much the live bytes have grown; set by build

	born   int64 // keys that the group has made, less those it has deleted
	wanted int64 // keys that the present request will make, as far as it has been checked

	// The sums before the group, if others write too: see keysThere and admitSpace.
	keys, live          int64
	keysRead, keysExact bool

	buckets *buckets // in which the keys count; nil: nobody counts
	counted int64    // by how much build has changed counters

	changes *btree.BTreeG[*keyState] // the changed keys, in order
	held    int                      // bytes of what scans and events hold
	heldMax int

	allow  allowance
	pace   *pace
	budget budget // of the request under evaluation

	// scratch is the state that a walk shows for a key that the group has not met yet. scratchRow is its row.
	scratch    keyState
	scratchRow []byte
}

// keyState is a key as the group sees it, and what the engine has about it.
type keyState struct {
	key  []byte
	live bool
	rec  record
	val  []byte // value of rec, if loaded
	has  bool   // val is loaded

	was   record // in the engine
	row   int    // length of its row's value there
	lived bool
	dirty bool
}

type leaseState struct {
	ttl    int64
	live   bool
	ending bool // then it is not live
	row    int  // length of its row's value in the engine
	lived  bool // it has a row in the engine
	dirty  bool
}

// pendingEntry is the log entry of the request whose index is its place in group.entries.
type pendingEntry struct {
	rev            int64 // pending, or given
	start, end     int   // in group.buf
	events, eventN int   // first event and the number of events
}

// pendingEvent is an event whose slices are still offsets, since the buffer they lie in grows.
type pendingEvent struct {
	ev revlog.Event
	at revlog.Offsets
}

const (
	// entryBytes is the initial size for the log entry of a request if larger values are written once.
	entryBytes = 2 << 10
	// eventBytes is roughly what an encoded event takes in addition to key and values.
	eventBytes = 48
	// groupHeldMax bounds the bytes that the ranges and events of a group hold in memory. groupHeldTxns is the same as
	// a multiple of the largest transaction, for an engine that bounds them: most of what is held will be written, and
	// there may be a few times as much that is only read for compares and answers.
	groupHeldMax  = 1 << 30
	groupHeldTxns = 8
	// chunksMax keeps the number of a chunk, the byte after an escaped key, below FF.
	chunksMax   = 0xff00
	btreeDegree = 32
)

// groupHeld returns how many bytes a group that will be committed may hold. One that only reads may hold groupHeldMax.
func groupHeld(l engine.Limits) int {
	if l.TxnBytes == 0 || l.TxnBytes > groupHeldMax/groupHeldTxns {
		return groupHeldMax
	}
	return groupHeldTxns * l.TxnBytes
}

// newGroup returns a group for requests with a total size in bytes.
func newGroup(s *Store, txn engine.Reader, requests, size int) *group {
	return &group{
		s: s, txn: txn, heldMax: groupHeldMax,
		states:  make(map[string]*keyState, requests),
		leases:  map[int64]*leaseState{},
		entries: make([]pendingEntry, 0, requests),
		events:  make([]pendingEvent, 0, requests),
		buf:     make([]byte, 0, size+requests*eventBytes),
		changes: btree.NewG(btreeDegree, func(a, b *keyState) bool { return bytes.Compare(a.key, b.key) < 0 }),
	}
}

// groupKept bounds the keys, rows and events of a group whose memory is used again, groupKeptBytes its scratch space.
const (
	groupKept      = 64
	groupKeptBytes = 8 << 10
)

// forget empties a group that nobody uses any more, so that reuse can use its memory. What it has handed on stays as it
// is. It returns nil if the group is too large to be kept.
func (g *group) forget() *group {
	if max(len(g.states), len(g.leases), len(g.ahead), cap(g.entries), cap(g.events), cap(g.stateSlab)) > groupKept ||
		cap(g.rowSlab) > groupKeptBytes {
		return nil
	}
	clear(g.states)
	clear(g.leases)
	clear(g.ahead)
	clear(g.entries)
	clear(g.events)
	clear(g.stateSlab)
	g.changes.Clear(true)
	*g = group{
		states: g.states, leases: g.leases, ahead: g.ahead, entries: g.entries[:0], events: g.events[:0],
		stateSlab: g.stateSlab[:0], rowSlab: g.rowSlab[:0], changes: g.changes,
	}
	return g
}

// reuse is newGroup with the memory of a forgotten group, or without any if there is none.
func (g *group) reuse(s *Store, txn engine.Reader, requests, size int) *group {
	if g == nil {
		return newGroup(s, txn, requests, size)
	}
	g.s, g.txn, g.heldMax = s, txn, groupHeldMax
	g.buf = make([]byte, 0, size+requests*eventBytes)
	return g
}

func (g *group) newState(key []byte) *keyState {
	if n := cap(g.stateSlab); len(g.stateSlab) == n {
		// A group of few requests mostly has as many keys.
		g.stateSlab = make([]keyState, 0, max(1, min(2*n, 8), cap(g.entries)))
	}
	g.stateSlab = append(g.stateSlab, keyState{key: key})
	return &g.stateSlab[len(g.stateSlab)-1]
}

func (g *group) idxRow(key []byte) []byte {
	n := len(g.s.rows.prefix) + 1 + len(key)
	if cap(g.rowSlab)-len(g.rowSlab) < n {
		g.rowSlab = make([]byte, 0, max(n, 64*max(1, cap(g.entries))))
	}
	start := len(g.rowSlab)
	g.rowSlab = g.s.rows.idx(g.rowSlab, key)
	return g.rowSlab[start:len(g.rowSlab):len(g.rowSlab)]
}

// apart says whether larger values are written once, and the log only names them. Otherwise the log holds copies.
func (g *group) apart() bool { return g.features.Has(FeatureValues) }

// place returns where a new value of a size is stored.
func (g *group) place(size int) revlog.Place {
	switch {
	case size <= g.s.o.InlineBytes:
		return revlog.PlaceInline
	case g.apart():
		return revlog.PlaceOwn
	}
	return revlog.PlaceOld
}

func (st *keyState) init(row []byte, refs revlog.RowRevs) error {
	if row == nil {
		return nil
	}
	if err := parseRecord(row, refs, &st.rec); err != nil {
		return err
	}
	st.live, st.lived, st.was, st.row = true, true, st.rec, len(row)
	if st.rec.inline() {
		st.val, st.has = st.rec.value, true
	}
	return nil
}

// loadValues reads all missing values of live keys at once.
func (g *group) loadValues(ctx context.Context, states []*keyState) error {
	var todo []*keyState
	var refs []ValueRef
	for _, st := range states {
		if st.live && !st.has {
			if err := g.hold(st.rec.size); err != nil {
				return err
			}
			todo = append(todo, st)
			refs = append(refs, st.rec.ref(st.key))
		}
	}
	values, err := g.s.readValues(ctx, g.txn, refs)
	if err != nil {
		return err
	}
	for i, st := range todo {
		if values[i] == nil {
			return ErrCorrupt
		}
		st.val, st.has = values[i], true
	}
	return nil
}

// state returns a key as the group sees it.
func (g *group) state(ctx context.Context, key []byte) (*keyState, error) {
	if st, ok := g.states[string(key)]; ok {
		return st, nil
	}
	row, err := g.txn.Get(ctx, g.idxRow(key))
	if err != nil {
		return nil, storeErr(err)
	}
	st := g.newState(bytes.Clone(key))
	if err := st.init(row, g.s.refs); err != nil {
		return nil, err
	}
	g.states[string(st.key)] = st
	return st, nil
}

func (g *group) value(ctx context.Context, st *keyState) ([]byte, error) {
	if !st.has {
		v, err := g.s.valueOf(ctx, g.txn, st.key, &st.rec)
		if err != nil {
			return nil, err
		}
		st.val, st.has = v, true
	}
	return st.val, nil
}

// hold counts bytes that the group keeps in memory.
func (g *group) hold(n int) error {
	if g.held += n; g.held > g.heldMax {
		return engine.ErrTooLarge
	}
	return nil
}

// change notes that a key's state differs from the engine's.
func (g *group) change(st *keyState) {
	if !st.dirty {
		st.dirty = true
		g.states[string(st.key)] = st
		g.changes.ReplaceOrInsert(st)
	}
}

// lease returns a lease as the group sees it.
func (g *group) lease(ctx context.Context, id int64) (*leaseState, error) {
	if l, ok := g.leases[id]; ok {
		return l, nil
	}
	row, err := g.row(ctx, g.s.rows.lease(nil, id))
	if err != nil {
		return nil, err
	}
	l := &leaseState{}
	if row != nil {
		if l.ttl, l.ending, err = parseLease(row); err != nil {
			return nil, err
		}
		l.live, l.lived, l.row = !l.ending, true, len(row)
	}
	g.leases[id] = l
	return l, nil
}

func (g *group) compactRev(ctx context.Context) (int64, error) {
	if !g.loaded {
		row, err := g.row(ctx, g.s.compactRow)
		if err != nil {
			return 0, err
		}
		c, err := parseCompact(row)
		if err != nil {
			return 0, err
		}
		g.compact, g.loaded = c, true
	}
	return g.compact, nil
}

// num returns the number as which a pending revision compares. On a dense engine it is the revision itself, a successor
// of the head. On a sparse one it is the least that the revision can be, that of the next version. So it is larger than
// any revision that a client can know, as those are not above the head of a read version that was taken after the
// client's request, and larger than what a client can guess from them.
func (g *group) num(rev int64) int64 {
	i, ok := revlog.PendingIndex(rev)
	if !ok {
		return rev
	}
	g.needsHead = true
	if g.s.limits.Dense {
		return g.head + 1 + int64(i)
	}
	version := g.s.meta.Space.Stamp(g.head).Version
	if g.s.limits.Versionstamps {
		version = max(version, g.txn.Version())
	}
	return g.s.meta.Space.Of(engine.Stamp{Version: version + 1, Index: uint16(i)})
}

// begin opens the log entry of the current request at its first change.
func (g *group) begin() int64 {
	if !g.open {
		g.open = true
		if g.rev = g.given; g.rev == 0 {
			g.rev = revlog.Pending(len(g.entries))
		}
		g.entries = append(g.entries, pendingEntry{rev: g.rev, start: len(g.buf), events: len(g.events)})
	}
	return g.rev
}

// end closes the current request.
func (g *group) end() {
	if g.open {
		e := &g.entries[len(g.entries)-1]
		e.end, e.eventN = len(g.buf), len(g.events)-e.events
		g.open = false
	}
}

// record appends an event to the current request's entry and returns its place, for results that refer to it.
func (g *group) record(ev *revlog.Event) (int, error) {
	before := len(g.buf)
	pe := pendingEvent{ev: *ev}
	g.buf, pe.at = g.s.codec.AppendEvent(g.buf, ev, g.rev)
	g.events = append(g.events, pe)
	start := g.entries[len(g.entries)-1].start
	if chunksOf(len(g.buf)-start, g.s.meta.ChunkBytes) > chunksMax {
		return 0, engine.ErrTooLarge
	}
	return len(g.events) - 1, g.hold(len(g.buf) - before)
}

// kv returns a key as reads see it.
func (st *keyState) kv() KV {
	return KV{
		Key:     st.key,
		Value:   st.val,
		Create:  st.rec.create,
		Mod:     st.rec.mod,
		Version: st.rec.version,
		Lease:   st.rec.lease,
	}
}

// replaced returns the version that an event replaces, in the event's form. An inline value is copied into the log.
// Another value is there only if somebody has asked for it, and then in memory that outlives the transaction.
func (g *group) replaced(st *keyState) KV {
	kv := st.kv()
	if st.rec.inline() || !g.apart() {
		return kv
	}
	kv.Place, kv.Size = st.rec.place, st.rec.size
	kv.Value = bytes.Clone(kv.Value)
	return kv
}

// put sets a key. It returns the place of the event.
func (g *group) put(ctx context.Context, st *keyState, value []byte, lease int64) (int, error) {
	if st.live && !g.apart() {
		if _, err := g.value(ctx, st); err != nil {
			return 0, err
		}
	}
	if chunksOf(len(value), g.s.meta.ChunkBytes) > chunksMax {
		return 0, engine.ErrTooLarge
	}
	rev := g.begin()
	rec := record{create: rev, mod: rev, version: 1, lease: lease, size: len(value), place: g.place(len(value))}
	ev := revlog.Event{HasPrev: st.live}
	if st.live {
		ev.Prev = g.replaced(st)
		rec.create, rec.version = st.rec.create, st.rec.version+1
	}
	made := !st.live
	ev.KV = KV{Key: st.key, Value: value, Create: rec.create, Mod: rev, Version: rec.version, Lease: lease}
	if rec.place == revlog.PlaceOwn {
		ev.KV.Place, ev.KV.Size = rec.place, rec.size
	}
	i, err := g.record(&ev)
	if err != nil {
		return 0, err
	}
	st.rec, st.val, st.has, st.live = rec, value, true, true
	if made {
		g.born++
	}
	g.change(st)
	return i, nil
}

// del deletes a live key. It returns the place of the event.
func (g *group) del(ctx context.Context, st *keyState) (int, error) {
	if !g.apart() {
		if _, err := g.value(ctx, st); err != nil {
			return 0, err
		}
	}
	rev := g.begin()
	i, err := g.record(&revlog.Event{Delete: true, KV: KV{Key: st.key, Mod: rev}, HasPrev: true, Prev: g.replaced(st)})
	if err != nil {
		return 0, err
	}
	st.rec, st.val, st.has, st.live = record{}, nil, false, false
	g.born--
	g.change(st)
	return i, nil
}
