package revlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revision"
)

// stamper gives the requests of one group their stamps, as an engine does at commit.
type stamper struct {
	refs  RowRevs
	dense bool
	first engine.Stamp
}

func genStamper(t *rapid.T) stamper {
	dense := rapid.Bool().Draw(t, "dense")
	s := stamper{dense: dense}
	var base int64
	if !dense {
		base = rapid.Int64Range(-1<<40, 1<<40).Draw(t, "base")
		s.refs.Space.Shift = uint(rapid.IntRange(0, revision.ShiftMax).Draw(t, "shift"))
	}
	s.refs.Space.Base = base
	s.first.Version = uint64(rapid.Int64Range(max(base, 0)+1, max(base, 0)+1<<45).Draw(t, "version"))
	return s
}

// groupMax is how many requests one group may hold.
func (s stamper) groupMax() int {
	if s.dense {
		return 1 << 16
	}
	return s.refs.Space.GroupMax()
}

// rev settles a revision.
func (s stamper) rev(rev int64) int64 {
	if i, ok := PendingIndex(rev); ok {
		return s.refs.Space.Of(engine.Limits{Dense: s.dense}.StampOf(s.first, i))
	}
	return rev
}

// genRev draws a revision that a row of the request own may name: of the same group, not after it, or of an earlier
// commit.
func (s stamper) genRev(t *rapid.T, own int64, label string) int64 {
	i, _ := PendingIndex(own)
	if rapid.Bool().Draw(t, label+"Relative") {
		return Pending(rapid.IntRange(0, i).Draw(t, label))
	}
	st := engine.Stamp{Version: uint64(rapid.Int64Range(max(s.refs.Space.Base, 0),
		int64(s.first.Version)-1).Draw(t, label))}
	if !s.dense {
		st.Index = uint16(rapid.IntRange(0, s.groupMax()-1).Draw(t, label+"Index"))
	}
	return s.refs.Space.Of(st)
}

func TestRefsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genStamper(t)
		own := Pending(rapid.IntRange(0, s.groupMax()-1).Draw(t, "own"))
		rev := s.genRev(t, own, "rev")
		tail := rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "tail")
		got, rest, err := s.refs.Parse(append(s.refs.Append(nil, rev, own), tail...), s.rev(own))
		if err != nil || got != s.rev(rev) || string(rest) != string(tail) {
			t.Fatalf("%d seen from %d: got %d, want %d, rest %x of %x, %v", rev, own, got, s.rev(rev), rest, tail, err)
		}
	})
}

// TestRefsFollowTheBase: a reference names a stamp, not a number, so that all revisions of a keyspace move with its
// base.
func TestRefsFollowTheBase(t *testing.T) {
	for _, shift := range []uint{0, 5, revision.ShiftMax} {
		a, b := RowRevs{revision.Space{Base: 1000, Shift: shift}}, RowRevs{revision.Space{Base: 900, Shift: shift}}
		rev := a.Space.Of(engine.Stamp{Version: 1234})
		got, _, err := b.Parse(a.Append(nil, rev, Pending(0)), 0)
		if want := rev + 100<<shift; err != nil || got != want {
			t.Errorf("shift %d: %d, %v, want %d", shift, got, err, want)
		}
	}
}

func TestRefsRefuse(t *testing.T) {
	sparse := RowRevs{revision.Space{Base: 7, Shift: 2}}
	uv := func(vs ...uint64) (b []byte) {
		for _, v := range vs {
			b = binary.AppendUvarint(b, v)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"empty":                       nil,
		"half a varint":               {0x80},
		"a varint of 11 bytes":        {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1},
		"before the first revision":   uv(11<<1 | 1),
		"no index":                    uv(9 << 1),
		"an index beyond the group's": uv(9<<1, 4),
	} {
		if rev, _, err := sparse.Parse(b, 10); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %d, %v", name, rev, err)
		}
	}
}

func TestPending(t *testing.T) {
	for _, i := range []int{0, 1, math.MaxUint16} {
		if j, ok := PendingIndex(Pending(i)); !ok || i != j {
			t.Errorf("index %d came back as %d, %v", i, j, ok)
		}
	}
	for _, rev := range []int64{0, 1, math.MaxInt64} {
		if _, ok := PendingIndex(rev); ok {
			t.Errorf("%d counts as pending", rev)
		}
	}
}

func genKV(t *rapid.T, s stamper, own int64, label string) KV {
	bytes := rapid.SliceOfN(rapid.Byte(), 0, 200)
	kv := KV{
		Value:   bytes.Draw(t, label+"Value"),
		Create:  s.genRev(t, own, label+"Create"),
		Version: rapid.Int64Range(1, math.MaxInt64).Draw(t, label+"Version"),
	}
	if rapid.Bool().Draw(t, label+"HasLease") {
		kv.Lease = rapid.Int64().Draw(t, label+"Lease")
	}
	return kv
}

func genEvent(t *rapid.T, s stamper, own int64) Event {
	key := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "key")
	ev := Event{Delete: rapid.Bool().Draw(t, "delete"), HasPrev: rapid.Bool().Draw(t, "hasPrev")}
	if !ev.Delete {
		ev.KV = genKV(t, s, own, "new")
		apart(t, &ev.KV, PlaceInline, PlaceOwn)
	}
	ev.KV.Key, ev.KV.Mod = key, own
	if ev.HasPrev {
		ev.Prev = genKV(t, s, own, "prev")
		ev.Prev.Key, ev.Prev.Mod = key, s.genRev(t, own, "prevMod")
		apart(t, &ev.Prev, PlaceInline, PlaceOwn, PlaceOld)
	}
	return ev
}

// apart draws where the value of a version is stored. What is not inline is not in the entry either.
func apart(t *rapid.T, kv *KV, places ...Place) {
	if kv.Place = rapid.SampledFrom(places).Draw(t, "place"); kv.Place != PlaceInline {
		kv.Value, kv.Size = nil, rapid.IntRange(1, sizeMax).Draw(t, "size")
	}
}

func (s stamper) settle(kv KV) KV {
	kv.Mod, kv.Create = s.rev(kv.Mod), s.rev(kv.Create)
	return kv
}

// TestEntryRoundTrip: Parse(AppendEvent…) is the entry, with its revisions settled; the offsets say where keys and
// values lie; and what Parse returns lies in the bytes it was given.
func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genStamper(t)
		c := Codec{s.refs}
		own := Pending(rapid.IntRange(0, s.groupMax()-1).Draw(t, "own"))
		b := rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "before")
		start := len(b)
		want := Entry{Rev: s.rev(own)}
		for range rapid.IntRange(0, 5).Draw(t, "events") {
			ev := genEvent(t, s, own)
			var at Offsets
			b, at = c.AppendEvent(b, &ev, own)
			checkAt(t, b, "key", at.Key, ev.KV.Key)
			if !ev.Delete {
				checkAt(t, b, "value", at.Value, ev.KV.Value)
			}
			if ev.HasPrev {
				checkAt(t, b, "previous value", at.Prev, ev.Prev.Value)
				ev.Prev = s.settle(ev.Prev)
			}
			if ev.Delete {
				ev.KV.Mod = s.rev(own)
			} else {
				ev.KV = s.settle(ev.KV)
			}
			want.Events = append(want.Events, ev)
		}
		got, err := c.Parse(b[start:], s.rev(own))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		if err := inside(b, &got); err != nil {
			t.Fatal(err)
		}
		// Every proper prefix is either refused or ends between two events.
		cut := rapid.IntRange(start, len(b)).Draw(t, "cut")
		if e, err := c.Parse(b[start:cut], want.Rev); err == nil {
			if diff := cmp.Diff(want.Events[:len(e.Events)], e.Events, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("cut at %d: %s", cut, diff)
			}
		}
	})
}

func checkAt(t *rapid.T, b []byte, what string, at int, want []byte) {
	t.Helper()
	if at < 0 || at+len(want) > len(b) || string(b[at:at+len(want)]) != string(want) {
		t.Fatalf("no %s %x at %d of %x", what, want, at, b)
	}
}

// inside checks that all slices of e are part of b and cannot be appended to in place.
func inside(b []byte, e *Entry) error {
	for i := range e.Events {
		ev := &e.Events[i]
		for _, s := range [][]byte{ev.KV.Key, ev.KV.Value, ev.Prev.Key, ev.Prev.Value} {
			if len(s) == 0 {
				continue
			}
			begin, p := uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(unsafe.SliceData(s)))
			if p < begin || p+uintptr(len(s)) > begin+uintptr(len(b)) {
				return fmt.Errorf("event %d: %x has been copied", i, s)
			}
			if cap(s) != len(s) {
				return fmt.Errorf("event %d: %x has room for %d more", i, s, cap(s)-len(s))
			}
		}
	}
	return nil
}

// FuzzParse: arbitrary bytes never panic, are never copied, and are refused whole or not at all.
func FuzzParse(f *testing.F) {
	dense, sparse := Codec{}, Codec{RowRevs{revision.Space{Base: 1 << 40, Shift: 5}}}
	put := Event{
		KV:      KV{Key: []byte("k"), Value: []byte("v"), Create: Pending(1), Version: 3, Lease: 9},
		HasPrev: true, Prev: KV{Value: []byte("old"), Create: Pending(0), Mod: Pending(0), Version: 2},
	}
	del := Event{
		Delete: true, KV: KV{Key: []byte{0, 0xff}}, HasPrev: true, Prev: KV{Create: 7, Mod: 8, Version: 1, Lease: -1},
	}
	for _, c := range []Codec{dense, sparse} {
		b, _ := c.AppendEvent(nil, &put, Pending(1))
		b, _ = c.AppendEvent(b, &del, Pending(1))
		f.Add(b, int64(100), c == sparse)
	}
	f.Add([]byte{0x10}, int64(1), false)
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, int64(1), false)
	f.Fuzz(func(t *testing.T, b []byte, rev int64, other bool) {
		c := dense
		if other {
			c = sparse
		}
		e, err := c.Parse(b, rev)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || len(e.Events) != 0 {
				t.Fatalf("%+v, %v", e, err)
			}
			return
		}
		if err := inside(b, &e); err != nil {
			t.Fatal(err)
		}
	})
}
