package bus_test

import (
	"bytes"
	"errors"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/bus/bustest"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/revlog"
	busv1 "github.com/headwaterdb/headwater/protos/headwater/bus/v1"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

type local struct{ b *bus.Local }

func (l local) Connect(*testing.T) bus.Bus { return l.b }

func TestLocal(t *testing.T) {
	bustest.Run(t, func(*testing.T) bustest.Medium { return local{bus.NewLocal()} })
}

// genFrame draws a valid frame.
func genFrame(t *rapid.T) *bus.Frame {
	f := &bus.Frame{
		Keyspace: string(rapid.SliceOfN(rapid.Byte(), 0, 30).Draw(t, "keyspace")),
		Ballot:   rapid.Uint64().Draw(t, "ballot"),
		Prev:     rapid.Int64Range(0, 1<<53).Draw(t, "prev"),
		Compact:  rapid.Int64Range(0, 1<<53).Draw(t, "compact"),
		Auth:     rapid.Uint64().Draw(t, "auth"),
	}
	f.Upto = f.Prev
	for range rapid.IntRange(0, 40).Draw(t, "entries") {
		f.Upto += rapid.Int64Range(1, 1<<40).Draw(t, "step")
		p := revlog.Payload{Rev: f.Upto}
		if rapid.IntRange(0, 5).Draw(t, "reference") > 0 {
			p.Bytes = make([]byte, rapid.IntRange(0, 300).Draw(t, "size"))
			for i := range p.Bytes {
				p.Bytes[i] = byte(i * len(f.Entries))
			}
		}
		f.Entries = append(f.Entries, p)
	}
	f.Upto += rapid.Int64Range(0, 10).Draw(t, "more")
	return f
}

// generated is f in the generated type.
func generated(f *bus.Frame) *busv1.Frame {
	m := &busv1.Frame{
		Keyspace: []byte(f.Keyspace), Ballot: f.Ballot, Prev: f.Prev, Upto: f.Upto, Compact: f.Compact, Auth: f.Auth,
	}
	for _, p := range f.Entries {
		m.Entries = append(m.Entries, &busv1.Entry{Revision: p.Rev, Payload: p.Bytes})
	}
	return m
}

// ours is m in our type.
func ours(m *busv1.Frame) *bus.Frame {
	f := &bus.Frame{
		Keyspace: string(m.Keyspace), Ballot: m.Ballot, Prev: m.Prev, Upto: m.Upto, Compact: m.Compact, Auth: m.Auth,
	}
	for _, e := range m.Entries {
		f.Entries = append(f.Entries, revlog.Payload{Rev: e.Revision, Bytes: e.Payload})
	}
	return f
}

// TestWire: Append writes what the generated code reads, Parse reads what the generated code writes, and Size is
// enough.
func TestWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFrame(t)
		b := bus.Append([]byte("before"), f)[len("before"):]
		if len(b) > bus.Size(f) {
			t.Fatalf("%d bytes, Size said %d", len(b), bus.Size(f))
		}
		var m busv1.Frame
		if err := proto.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f, ours(&m)); diff != "" {
			t.Fatal(diff)
		}
		b, err := proto.Marshal(generated(f))
		if err != nil {
			t.Fatal(err)
		}
		got, err := bus.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestSplit: the parts are small enough, chain from Prev to Upto, and hold every entry once, as a reference only if
// it is too large.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFrame(t)
		limit := bus.LimitMin + rapid.IntRange(0, 400).Draw(t, "room")
		at, n := f.Prev, 0
		for part := range bus.Split(f, limit) {
			if size := len(bus.Append(nil, part)); size > limit {
				t.Fatalf("%d bytes of %d", size, limit)
			}
			if !part.Valid() || part.Prev != at || part.Ballot != f.Ballot || part.Compact != f.Compact ||
				part.Auth != f.Auth || part.Keyspace != f.Keyspace {
				t.Fatalf("part %+v after %d", part, at)
			}
			for _, p := range part.Entries {
				want := f.Entries[n]
				whole := *f
				whole.Entries = []revlog.Payload{want}
				if bus.Size(&whole) > limit {
					want.Bytes = nil
				}
				if diff := cmp.Diff(want, p); diff != "" {
					t.Fatal(diff)
				}
				n++
			}
			at = part.Upto
		}
		if at != f.Upto || n != len(f.Entries) {
			t.Fatalf("ended at %d of %d with %d entries of %d", at, f.Upto, n, len(f.Entries))
		}
	})
	for part := range bus.Split(genFrameOf(100), bus.LimitMin) {
		if part.Prev != 0 {
			t.Error("went on")
		}
		break
	}
}

func genFrameOf(n int64) *bus.Frame {
	f := &bus.Frame{Upto: n}
	for i := range n {
		f.Entries = append(f.Entries, revlog.Payload{Rev: i + 1, Bytes: make([]byte, 100)})
	}
	return f
}

// FuzzParse: Parse agrees with the generated code on any bytes, but for frames whose revisions are not in order,
// which it refuses; it copies no payload, and what it has read can be written and read again.
func FuzzParse(f *testing.F) {
	for _, frame := range []*bus.Frame{
		{},
		{Keyspace: "default", Ballot: 1, Prev: 2, Upto: 2, Compact: 1},
		{Prev: 2, Upto: 9, Entries: []revlog.Payload{{Rev: 3}, {Rev: 4, Bytes: []byte{}}, {Rev: 9, Bytes: []byte("payload")}}},
		{Prev: 2, Upto: 9, Entries: []revlog.Payload{{Rev: 4}, {Rev: 3}}},
		{Prev: 9, Upto: 2},
		{Upto: -1},
	} {
		f.Add(bus.Append(nil, frame))
	}
	f.Add([]byte("\x0a\x05ab"))
	f.Add([]byte("\x08\x01\x3a\x03abc\x20\x05")) // a known number with another type, and an unknown field
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := bus.Parse(b)
		var m busv1.Frame
		bad := proto.Unmarshal(b, &m)
		if err != nil {
			if got != nil || !errors.Is(err, bus.ErrFormat) {
				t.Fatalf("%+v, %v", got, err)
			}
			if bad == nil && ours(&m).Valid() {
				t.Fatalf("refused %+v", &m)
			}
			return
		}
		if bad != nil {
			t.Fatalf("accepted what is none: %v", bad)
		}
		if diff := cmp.Diff(ours(&m), got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		for _, p := range got.Entries {
			if len(p.Bytes) > 0 && !within(b, p.Bytes) || len(p.Bytes) != cap(p.Bytes) {
				t.Fatal("copied, or with room for more")
			}
		}
		again, err := bus.Parse(bus.Append(nil, got))
		if err != nil || !cmp.Equal(got, again) {
			t.Fatalf("%+v, %v, was %+v", again, err, got)
		}
	})
}

// within says whether part lies in the memory of b.
func within(b, part []byte) bool {
	begin, p := uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(unsafe.SliceData(part)))
	return begin <= p && p+uintptr(len(part)) <= begin+uintptr(len(b)) && bytes.Contains(b, part)
}

func BenchmarkParse(b *testing.B) {
	wire := bus.Append(nil, genFrameOf(1000))
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bus.Parse(wire); err != nil {
			b.Fatal(err)
		}
	}
}
