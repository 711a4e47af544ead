package mvcc

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// build turns the changes of the group into the mutations of its transaction. It reads nothing, because on FoundationDB
// a range cannot be read after a stamped write. It writes rows table by table in key order, which is faster for an LSM
// tree.
func (g *group) build(txn engine.Txn, commitRow []byte, seq uint64) {
	txn = g.stamped(txn)
	w := rowWriter{g: g, txn: txn}
	txn.UseStamps(len(g.entries))
	for i := range g.entries {
		w.log(i)
	}
	g.changes.Ascend(func(st *keyState) bool {
		w.idx(st)
		return true
	})
	g.changes.Ascend(func(st *keyState) bool {
		if !g.apart() {
			w.oldVal(st)
		}
		w.attachment(st)
		return true
	})
	for i := range g.entries {
		w.vals(i)
	}
	for _, r := range g.replacements() {
		w.hist(r)
	}
	for id, l := range g.leases {
		if l.dirty {
			w.lease(id, l)
		}
	}
	if g.compacts {
		txn.Set(g.s.compactRow, appendRev(nil, g.compact))
	}
	w.besideWork()
	w.counters()
	w.commit(commitRow, seq)
	g.grown = w.grown
	if g.features.Has(FeatureSizes) && g.grown != 0 {
		txn.Add(g.s.sizeRow, g.grown)
	}
}

// replacement is an event that replaced a version, and the index of its request.
type replacement struct {
	pe    *pendingEvent
	index int
}

func (g *group) replacements() []replacement {
	var rs []replacement
	for i := range g.entries {
		e := &g.entries[i]
		for j := e.events; j < e.events+e.eventN; j++ {
			if g.events[j].ev.HasPrev {
				rs = append(rs, replacement{&g.events[j], i})
			}
		}
	}
	slices.SortStableFunc(rs, func(a, b replacement) int { return bytes.Compare(a.pe.ev.KV.Key, b.pe.ev.KV.Key) })
	return rs
}

// rowWriter writes rows from scratch buffers: mutations copy what they are given.
type rowWriter struct {
	g     *group
	txn   engine.Txn
	k, v  []byte
	grown int64 // live bytes written less those cleared
	// detached are the leases whose attachments have been cleared (detachesAll).
	detached []int64
}

// wrote counts the row in k with the value in v.
func (w *rowWriter) wrote() { w.grown += w.g.s.rows.bytes(w.k, len(w.v)) }

// cleared counts the row in k, which had a value of so many bytes.
func (w *rowWriter) cleared(value int) { w.grown -= w.g.s.rows.bytes(w.k, value) }

// idx writes the current record of a key.
func (w *rowWriter) idx(st *keyState) {
	s := w.g.s
	w.k = s.rows.idx(w.k[:0], st.key)
	if st.lived {
		w.cleared(st.row)
	}
	if !st.live {
		if st.lived {
			w.txn.Clear(w.k)
		}
		return
	}
	if st.rec.inline() {
		st.rec.value = st.val
	}
	w.v = appendRecord(w.v[:0], s.refs, &st.rec)
	if st.rec.mod < 0 {
		w.txn.SetStampedValue(w.k, w.v, 0)
	} else { // given
		w.txn.Set(w.k, w.v)
	}
	w.wrote()
}

// oldVal replaces the val rows of a key in format 1, after idx.
func (w *rowWriter) oldVal(st *keyState) {
	s := w.g.s
	if st.lived && !st.was.inline() {
		w.k = s.rows.val(w.k[:0], st.key)
		w.txn.ClearRange(w.k, keyEnd(w.k))
		ref := st.was.ref(st.key)
		w.grown -= s.valBytes(&ref)
	}
	if !st.live || st.rec.inline() {
		return
	}
	for i, part := range slices.Collect(slices.Chunk(st.val, s.meta.ChunkBytes)) {
		w.k = s.rows.valOld(w.k[:0], st.key, i)
		w.txn.Set(w.k, part)
		w.grown += s.rows.bytes(w.k, len(part))
	}
}

// vals writes the larger values of a request. They are never written again.
func (w *rowWriter) vals(i int) {
	s, e := w.g.s, &w.g.entries[i]
	at := engine.Stamp{Index: uint16(i)}
	for j := e.events; j < e.events+e.eventN; j++ {
		kv := &w.g.events[j].ev.KV
		if kv.Place != revlog.PlaceOwn {
			continue
		}
		for n, rest := 0, kv.Value; len(rest) > 0; n++ {
			part := rest[:min(len(rest), s.meta.ChunkBytes)]
			rest = rest[len(part):]
			w.k = s.rows.valChunk(w.k[:0], kv.Key, at, n)
			w.txn.SetStampedKey(w.k, len(w.k)-valStampEnd-engine.StampLen, part)
			w.grown += s.rows.bytes(w.k, len(part))
		}
	}
}

func (w *rowWriter) attachment(st *keyState) {
	before, after := st.was.lease, st.rec.lease
	if before == after {
		return
	}
	w.v = w.v[:0]
	if before != 0 {
		w.k = w.g.s.rows.leaseKey(before, st.key)
		if !w.detachesAll(before) {
			w.txn.Clear(w.k)
		}
		w.cleared(0)
	}
	if after != 0 {
		w.k = w.g.s.rows.leaseKey(after, st.key)
		w.txn.Set(w.k, nil)
		w.wrote()
	}
}

// detachesAll clears, once, all attachments to a lease that ends in this group, and says whether it has done so. A
// lease that ends has no attachment left. On a remote engine a range costs what one row costs. In an LSM tree ranges
// make later scans slow.
func (w *rowWriter) detachesAll(id int64) bool {
	l := w.g.leases[id]
	if w.g.s.limits.Dense || l == nil || !l.dirty || l.live || l.ending {
		return false
	}
	if !slices.Contains(w.detached, id) {
		w.detached = append(w.detached, id)
		begin := w.g.s.rows.leaseKey(id, nil)
		w.txn.ClearRange(begin, prefixEnd(begin))
	}
	return true
}

// log writes the log rows of a request.
func (w *rowWriter) log(i int) {
	s, e := w.g.s, &w.g.entries[i]
	at := engine.Stamp{Index: uint16(i)}
	payload := w.g.buf[e.start:e.end]
	size := s.meta.ChunkBytes
	for n := range max(1, chunksOf(len(payload), size)) {
		part := payload[n*size : min((n+1)*size, len(payload))]
		w.v = w.v[:0]
		if n == 0 {
			w.k = s.rows.log(w.k[:0], at)
			w.v = binary.AppendUvarint(w.v, uint64(len(payload)))
		} else {
			w.k = s.rows.logChunk(w.k[:0], at, n)
		}
		w.v = append(w.v, part...)
		w.txn.SetStampedKey(w.k, s.rows.logStampAt(), w.v)
		w.wrote()
	}
}

// hist writes the row that leads from a replaced version to its value.
func (w *rowWriter) hist(r replacement) {
	p := &r.pe.ev.Prev
	was := replaced{
		create: p.Create, mod: p.Mod, version: p.Version, lease: p.Lease, size: p.Bytes(),
		at: prevOffset(p, r.pe.at.Prev-w.g.entries[r.index].start),
	}
	w.k = w.g.s.rows.hist(w.k[:0], p.Key, engine.Stamp{Index: uint16(r.index)})
	w.v = appendReplaced(w.v[:0], w.g.s.refs, &was, revlog.Pending(r.index))
	w.txn.SetStampedKey(w.k, len(w.k)-engine.StampLen, w.v)
	w.wrote()
}

// leaseRowBytes is the length of a lease row's value, unless the lease is ending.
const leaseRowBytes = 8

func (w *rowWriter) lease(id int64, l *leaseState) {
	w.k = w.g.s.rows.lease(w.k[:0], id)
	if l.lived {
		w.cleared(l.row)
	}
	if l.live || l.ending {
		w.v = appendLease(w.v[:0], l.ttl, l.ending)
		w.txn.Set(w.k, w.v)
		w.wrote()
	} else {
		w.txn.Clear(w.k)
	}
}

// commit writes the head and the lane's row. A group that changed no key leaves the head where it is.
func (w *rowWriter) commit(row []byte, seq uint64) {
	w.v = binary.BigEndian.AppendUint64(w.v[:0], seq)
	n := len(w.g.entries)
	if n == 0 {
		w.txn.Set(row, w.v)
		return
	}
	head, at := headRow(w.g.features, engine.Stamp{Index: uint16(n - 1)})
	w.txn.SetStampedValue(w.g.s.headRow, head, at)
	w.v = engine.Stamp{}.Append(w.v)
	w.txn.SetStampedValue(row, w.v, 8)
	w.besideHead(uint16(n - 1))
}

// changed says whether the group has anything to write.
func (g *group) changed() bool {
	if len(g.entries) > 0 || g.compacts {
		return true
	}
	for _, l := range g.leases {
		if l.dirty {
			return true
		}
	}
	return false
}

// settle gives every pending revision its final value once the group's first stamp is known, and returns the entries
// for the watchers. Their slices point into the group's buffer, which nobody changes any more.
func (g *group) settle(first engine.Stamp) []revlog.Entry {
	entries := make([]revlog.Entry, len(g.entries))
	events := make([]revlog.Event, len(g.events))
	for i := range g.events {
		events[i] = g.settleEvent(&g.events[i], first)
	}
	g.settled = events
	for i := range g.entries {
		e := &g.entries[i]
		entries[i] = revlog.Entry{
			Rev:    g.settleRev(e.rev, first),
			Events: events[e.events : e.events+e.eventN : e.events+e.eventN],
		}
	}
	return entries
}

// settleRev is the revision that rev stands for after a commit whose index 0 has the stamp first.
func (g *group) settleRev(rev int64, first engine.Stamp) int64 {
	if i, ok := revlog.PendingIndex(rev); ok {
		return g.s.meta.Space.Of(g.s.limits.StampOf(first, i))
	}
	return rev
}

func (g *group) settleEvent(pe *pendingEvent, first engine.Stamp) revlog.Event {
	ev := pe.ev
	ev.KV.Key = g.slice(pe.at.Key, len(ev.KV.Key))
	ev.KV.Mod, ev.KV.Create = g.settleRev(ev.KV.Mod, first), g.settleRev(ev.KV.Create, first)
	// Values outside of the entry stay in the memory of their request, or where they were read to.
	if !ev.Delete && ev.KV.Place == revlog.PlaceInline {
		ev.KV.Value = g.slice(pe.at.Value, len(ev.KV.Value))
	}
	if ev.HasPrev {
		ev.Prev.Key = ev.KV.Key
		if ev.Prev.Place == revlog.PlaceInline {
			ev.Prev.Value = g.slice(pe.at.Prev, len(ev.Prev.Value))
		}
		ev.Prev.Mod, ev.Prev.Create = g.settleRev(ev.Prev.Mod, first), g.settleRev(ev.Prev.Create, first)
	}
	return ev
}

func (g *group) slice(at, n int) []byte { return g.buf[at : at+n : at+n] }

// settleResult does the same for a result, after settle.
func (g *group) settleResult(res *Result, first engine.Stamp) {
	res.Rev = g.settleRev(res.Rev, first)
	for i := range res.KVs {
		kv := &res.KVs[i]
		kv.Create, kv.Mod = g.settleRev(kv.Create, first), g.settleRev(kv.Mod, first)
	}
	for _, i := range res.prevEvents {
		prev := g.settled[i].Prev
		prev.Place, prev.Size = revlog.PlaceInline, 0
		res.Prev = append(res.Prev, prev)
	}
	for i := range res.Ops {
		g.settleResult(&res.Ops[i].Result, first)
	}
}
