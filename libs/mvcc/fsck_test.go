package mvcc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revision"
)

// sameBytes compares large values at once rather than byte by byte.
var sameBytes = cmp.Comparer(bytes.Equal)

// fsck reads the rows of a keyspace by docs/formats.md alone, with none of the package's code, and checks that they agree.
type fsck struct {
	t     testing.TB
	space revision.Space
	chunk int

	head, compact, compacted int64
	part                     [2]int64 // revision, events
	features                 uint64
	live, counted            int64

	idx    map[string]idxRow
	vals   map[valID][]byte
	named  map[valID]bool // by log entries
	logs   map[int64][]fsckEvent
	hists  map[string]map[int64]histRow
	leases map[int64]bool
	held   map[int64]map[string]bool // leasekey
}

// valID names a value that is not inline: key and revision, or revision 0 for format 1's.
type valID struct {
	key string
	rev int64
}

type idxRow struct {
	mvcc.KV
	flags byte
	size  int
}

// value returns the value of a key's row.
func (r *idxRow) id() valID {
	if r.flags&4 != 0 {
		return valID{string(r.Key), r.Mod}
	}
	return valID{string(r.Key), 0}
}

type histRow struct {
	mod, create, version, lease int64
	at, size                    int
}

type fsckEvent struct {
	delete, hasPrev bool
	kv, prev        mvcc.KV
	prevAt          int // of the previous value in the payload; 0 or 1 for values in rows of their own
}

// check reads and checks the keyspace of s, whose prefix is given. No writer may be under way. If removed, the compaction is
// said to have run to its end.
func check(t testing.TB, e engine.Store, s *mvcc.Store, prefix []byte, removed bool) *fsck {
	t.Helper()
	m := s.Meta()
	f := &fsck{
		t: t, space: m.Space, chunk: m.ChunkBytes, compact: -1, compacted: -1,
		idx: map[string]idxRow{}, vals: map[valID][]byte{}, named: map[valID]bool{}, logs: map[int64][]fsckEvent{},
		hists: map[string]map[int64]histRow{}, leases: map[int64]bool{}, held: map[int64]map[string]bool{},
	}
	f.read(e, prefix)
	f.checkCurrent()
	f.checkHistory(removed)
	if f.features&2 != 0 && f.live != f.counted {
		f.t.Errorf("the counter of live bytes has %d, the rows %d", f.counted, f.live)
	}
	return f
}

func (f *fsck) read(e engine.Store, prefix []byte) {
	f.t.Helper()
	snap, err := e.Snapshot(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	defer snap.Close()
	end := append(bytes.Clone(prefix), 0xff)
	it := snap.Scan(context.Background(), engine.Range{Begin: prefix, End: end})
	defer it.Close()
	payloads, want := map[int64][]byte{}, map[int64]uint64{}
	headOf, err := snap.Get(context.Background(), append(bytes.Clone(prefix), 'd'))
	if err != nil {
		f.t.Fatal(err)
	}
	for it.Next() {
		row, v := it.Key()[len(prefix):], bytes.Clone(it.Value())
		if bytes.IndexByte([]byte("ehiklv"), row[0]) >= 0 {
			f.live += int64(len(row) + len(v))
		}
		if err := f.row(row[0], bytes.Clone(row[1:]), v, payloads, want); err != nil {
			f.t.Fatalf("row %x = %x: %v", it.Key(), v, err)
		}
	}
	if err := it.Err(); err != nil {
		f.t.Fatal(err)
	}
	f.headRow(headOf)
	for rev, p := range payloads {
		if uint64(len(p)) != want[rev] {
			f.t.Errorf("the log entry at %d has %d bytes of %d", rev, len(p), want[rev])
		}
		f.logs[rev] = f.events(p, rev)
	}
}

// headRow reads the head.
func (f *fsck) headRow(v []byte) {
	if len(v) == 22 && v[8] == 0xff && v[9] == 0xfe {
		if got := binary.BigEndian.Uint64(v); got != f.features || got == 0 {
			f.t.Errorf("the head has the features %x, meta %x", got, f.features)
		}
		v = v[10:]
	} else if f.features != 0 || len(v) != 12 {
		f.t.Errorf("head %x, features %x", v, f.features)
	}
	f.head = f.stamp(v)
}

var errLength = errors.New("wrong length")

func (f *fsck) row(table byte, k, v []byte, payloads map[int64][]byte, want map[int64]uint64) error {
	switch table {
	case 'c':
		if len(k) != 17 || len(v) != 8 && len(v) != 20 {
			return errLength
		}
	case 'd': // headRow
	case 'e':
		if len(k) != 8 || len(v) != 8 {
			return errLength
		}
		f.leases[int64(binary.BigEndian.Uint64(k))] = true
	case 'h':
		key, rest := unescapeKey(k)
		if len(rest) != 12 {
			return errLength
		}
		own := f.stamp(rest)
		d := &decoder{b: v, space: f.space, own: own}
		h := histRow{mod: d.ref(), create: d.ref(), version: d.uint(), lease: d.uint(), at: int(d.uint()), size: int(d.uint())}
		if f.hists[key] == nil {
			f.hists[key] = map[int64]histRow{}
		}
		f.hists[key][own] = h
		return d.end()
	case 'i':
		r := idxRow{KV: mvcc.KV{Key: k, Mod: f.stamp(v)}}
		d := &decoder{b: v[13:], space: f.space, own: r.Mod}
		r.flags = v[12]
		r.Create, r.Version = d.ref(), d.uint()
		if v[12]&2 != 0 {
			r.Lease = int64(binary.BigEndian.Uint64(d.take(8)))
		}
		r.size = int(d.uint())
		if r.flags&1 != 0 {
			r.Value = d.take(r.size)
		}
		f.idx[string(k)] = r
		return d.end()
	case 'k':
		id := int64(binary.BigEndian.Uint64(k))
		if f.held[id] == nil {
			f.held[id] = map[string]bool{}
		}
		f.held[id][string(k[8:])] = true
	case 'l':
		rev := f.stamp(k)
		if len(k) == 12 {
			n, l := binary.Uvarint(v)
			payloads[rev], want[rev] = v[l:], n
			v = v[l:]
		} else if no := int(binary.BigEndian.Uint16(k[12:])); len(k) != 14 || no*f.chunk != len(payloads[rev]) {
			return fmt.Errorf("chunk %d after %d bytes", no, len(payloads[rev]))
		} else {
			payloads[rev] = append(payloads[rev], v...)
		}
		if len(v) > f.chunk {
			return errLength
		}
	case 'm':
		switch string(k) {
		case "compact":
			f.compact = int64(binary.BigEndian.Uint64(v))
		case "compacted":
			f.compacted = int64(binary.BigEndian.Uint64(v))
		case "part":
			f.part = [2]int64{int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))}
		case "live":
			f.counted = int64(binary.LittleEndian.Uint64(v))
		case "keyspace":
			if v[12] == 2 {
				f.features = binary.BigEndian.Uint64(v[26:])
			} else if v[12] != 1 || len(v) != 26 {
				return errLength
			}
		case "owner":
		default:
			return errors.New("unknown meta row")
		}
	case 'v':
		key, rest := unescapeKey(k)
		id := valID{key: key}
		if len(rest) == 14 {
			id.rev, rest = f.stamp(rest), rest[12:]
		}
		if len(rest) != 2 || int(binary.BigEndian.Uint16(rest))*f.chunk != len(f.vals[id]) || len(v) > f.chunk || len(v) == 0 {
			return fmt.Errorf("chunk %x after %d bytes", rest, len(f.vals[id]))
		}
		f.vals[id] = append(f.vals[id], v...)
	default:
		return errors.New("unknown table")
	}
	return nil
}

// stamp reads the first 12 bytes of b as a stamp.
func (f *fsck) stamp(b []byte) int64 {
	if len(b) < 12 || b[8] != 0 || b[9] != 0 {
		f.t.Fatalf("%x is no stamp", b)
	}
	index := int64(binary.BigEndian.Uint16(b[10:]))
	if index >= 1<<f.space.Shift {
		f.t.Fatalf("index %d of stamp %x", index, b[:12])
	}
	return (int64(binary.BigEndian.Uint64(b))-f.space.Base)<<f.space.Shift | index
}

func unescapeKey(b []byte) (string, []byte) {
	var key []byte
	for i := 0; i < len(b); i++ {
		if b[i] == 0 {
			if i+1 == len(b) || b[i+1] != 0xff {
				return string(key), b[i+1:]
			}
			i++
			key = append(key, 0)
			continue
		}
		key = append(key, b[i])
	}
	return string(key), nil
}

// decoder reads the fields of a value. Failures show as a bad end.
type decoder struct {
	b     []byte
	space revision.Space
	own   int64
	bad   bool
}

func (d *decoder) uint() int64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return int64(v)
}

func (d *decoder) ref() int64 {
	v := uint64(d.uint())
	if v&1 == 1 {
		return d.own - int64(v>>1)
	}
	return (int64(v>>1)-d.space.Base)<<d.space.Shift | d.uint()
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad = true
		return make([]byte, max(0, min(n, 8)))
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) end() error {
	if d.bad || len(d.b) != 0 {
		return fmt.Errorf("bad fields, %d bytes left", len(d.b))
	}
	return nil
}

func (f *fsck) events(p []byte, rev int64) (events []fsckEvent) {
	d := &decoder{b: p, space: f.space, own: rev}
	for len(d.b) > 0 && !d.bad {
		flags := d.take(1)[0]
		ev := fsckEvent{delete: flags&1 != 0, hasPrev: flags&2 != 0}
		ev.kv = mvcc.KV{Key: d.take(int(d.uint())), Mod: rev}
		version := func(kv *mvcc.KV, lease, own, old bool) {
			kv.Create, kv.Version = d.ref(), d.uint()
			if lease {
				kv.Lease = int64(binary.BigEndian.Uint64(d.take(8)))
			}
			size := int(d.uint())
			if !own && !old {
				kv.Value = d.take(size)
				return
			}
			id := valID{key: string(kv.Key)}
			if own {
				id.rev = kv.Mod
			}
			f.named[id] = true
			if kv.Value = f.vals[id]; len(kv.Value) != size && !f.goneInPart(rev, len(events)) || size == 0 {
				f.t.Errorf("the value of %q at %d has %d bytes, the log entry at %d says %d", kv.Key, id.rev, len(kv.Value), rev, size)
			}
		}
		if !ev.delete {
			version(&ev.kv, flags&4 != 0, flags&16 != 0, false)
		}
		if ev.hasPrev {
			ev.prev = mvcc.KV{Key: ev.kv.Key, Mod: d.ref()}
			version(&ev.prev, flags&8 != 0, flags&32 != 0, flags&64 != 0)
			switch {
			case flags&32 != 0:
			case flags&64 != 0:
				ev.prevAt = 1
			default:
				ev.prevAt = len(p) - len(d.b) - len(ev.prev.Value)
			}
		}
		events = append(events, ev)
	}
	if err := d.end(); err != nil || len(events) == 0 {
		f.t.Errorf("log entry at %d: %v, %d events", rev, err, len(events))
	}
	return events
}

// goneInPart says that a removal has already taken what an event of an entry names: the entry is gone with the last
// of them.
func (f *fsck) goneInPart(rev int64, event int) bool {
	return f.part[0] == rev && int64(event) < f.part[1]
}

// checkCurrent checks idx, val, lease and leasekey rows against one another.
func (f *fsck) checkCurrent() {
	f.t.Helper()
	vals := maps.Clone(f.vals)
	held := map[int64]map[string]bool{}
	for k, r := range f.idx {
		if r.Create > r.Mod || r.Mod > f.head || r.Version < 1 || (r.Version == 1) != (r.Create == r.Mod) {
			f.t.Errorf("idx row of %q: %+v, head %d", k, r.KV, f.head)
		}
		if r.flags&1 == 0 {
			id := r.id()
			if len(f.vals[id]) != r.size || r.size == 0 {
				f.t.Errorf("%q has %d bytes in val rows, %d in idx", k, len(f.vals[id]), r.size)
			}
			r.Value = f.vals[id]
			f.idx[k] = r
			delete(vals, id)
		}
		if r.Lease != 0 {
			if held[r.Lease] == nil {
				held[r.Lease] = map[string]bool{}
			}
			held[r.Lease][k] = true
			if !f.leases[r.Lease] {
				f.t.Errorf("%q is attached to lease %d, which is not there", k, r.Lease)
			}
		}
	}
	for id := range vals {
		if !f.named[id] {
			f.t.Errorf("orphan val rows of %q at %d", id.key, id.rev)
		}
	}
	if diff := cmp.Diff(held, f.held); diff != "" {
		f.t.Errorf("attachments (-idx +leasekey):\n%s", diff)
	}
}

// checkHistory checks the log against itself, hist rows and idx rows.
func (f *fsck) checkHistory(removed bool) {
	f.t.Helper()
	revs := slices.Sorted(maps.Keys(f.logs))
	if n := len(revs); n > 0 && revs[n-1] != f.head {
		f.t.Errorf("head %d, but the log ends at %d", f.head, revs[n-1])
	}
	if f.compacted > f.compact || removed && f.compacted != f.compact {
		f.t.Errorf("compacted at %d, removed up to %d", f.compact, f.compacted)
	}
	if len(revs) > 0 && revs[0] < f.compacted {
		f.t.Errorf("log entry %d below %d", revs[0], f.compacted)
	}
	hists := 0
	last := map[string]*fsckEvent{}
	for _, rev := range revs {
		for i := range f.logs[rev] {
			ev := &f.logs[rev][i]
			k := string(ev.kv.Key)
			f.checkChain(k, last[k], ev, rev > revs[0] && f.compact < 0)
			last[k] = ev
			if !ev.hasPrev {
				if ev.delete {
					f.t.Errorf("%q deleted at %d, but there was nothing", k, rev)
				}
				continue
			}
			hists++
			p := &ev.prev
			want := histRow{p.Mod, p.Create, p.Version, p.Lease, ev.prevAt, len(p.Value)}
			if f.goneInPart(rev, i) {
				hists--
				continue
			}
			if got, ok := f.hists[k][rev]; !ok || got != want {
				f.t.Errorf("hist row of %q at %d: %+v, %v, want %+v", k, rev, got, ok, want)
			}
		}
	}
	have := 0
	for _, h := range f.hists {
		have += len(h)
	}
	if have != hists {
		f.t.Errorf("%d hist rows, the log names %d", have, hists)
	}
	for k, ev := range last {
		cur, ok := f.idx[k]
		if ev.delete == ok || ok && cmp.Diff(ev.kv, cur.KV, sameBytes) != "" {
			f.t.Errorf("%q: idx has %+v, %v, the log %+v", k, cur.KV, ok, ev.kv)
		}
	}
	for k, r := range f.idx {
		if last[k] == nil && r.Mod > max(f.compact, f.compacted) {
			f.t.Errorf("%q was set at %d, but not in the log", k, r.Mod)
		}
	}
}

// checkChain checks that an event's previous version is what the key's last event made; whole says that the log goes back to
// the first revision.
func (f *fsck) checkChain(key string, last, ev *fsckEvent, whole bool) {
	f.t.Helper()
	rev := ev.kv.Mod
	switch {
	case last == nil:
		if whole && ev.hasPrev {
			f.t.Errorf("%q at %d has a previous version out of nowhere", key, rev)
		}
	case last.delete == ev.hasPrev:
		f.t.Errorf("%q at %d: previous version %v after delete %v", key, rev, ev.hasPrev, last.delete)
	case ev.hasPrev:
		if diff := cmp.Diff(last.kv, ev.prev, sameBytes); diff != "" {
			f.t.Errorf("%q at %d: previous version (-made +recorded):\n%s", key, rev, diff)
		}
	}
	if !ev.delete {
		created, version := rev, int64(1)
		if ev.hasPrev {
			created, version = ev.prev.Create, ev.prev.Version+1
		}
		if ev.kv.Create != created || ev.kv.Version != version {
			f.t.Errorf("%q at %d: create %d, version %d, want %d, %d", key, rev, ev.kv.Create, ev.kv.Version, created, version)
		}
	}
}

// checkReads undoes the log from the head backwards and compares every readable revision with what a range answers. step > 1
// looks at every so manieth revision only.
func (f *fsck) checkReads(s *mvcc.Store, step int) {
	f.t.Helper()
	state := map[string]mvcc.KV{}
	for k, r := range f.idx {
		state[k] = r.KV
	}
	revs := slices.Sorted(maps.Keys(f.logs))
	for i := len(revs) - 1; i >= 0 && revs[i] >= f.compact; i-- {
		if i%step == 0 {
			want := []mvcc.KV{}
			for _, k := range slices.Sorted(maps.Keys(state)) {
				want = append(want, state[k])
			}
			got, info := collect(f.t, s, &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, Rev: revs[i]})
			if diff := cmp.Diff(want, append([]mvcc.KV{}, got...), sameBytes); diff != "" || info.Count != int64(len(want)) {
				f.t.Fatalf("at %d of %d, count %d (-want +got):\n%s", revs[i], f.head, info.Count, diff)
			}
		}
		for _, ev := range f.logs[revs[i]] {
			if ev.hasPrev {
				state[string(ev.kv.Key)] = ev.prev
			} else {
				delete(state, string(ev.kv.Key))
			}
		}
	}
}
