package watch

import (
	"bytes"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// FuzzEventWire: what Wire makes decodes to the event, and equals what protobuf itself would write.
func FuzzEventWire(f *testing.F) {
	f.Add([]byte("k"), []byte("v"), int64(2), int64(3), int64(1), int64(0), false, []byte("old"), true, true)
	f.Add([]byte("k"), []byte(nil), int64(0), int64(1<<62), int64(0), int64(-1), true, []byte(nil), false, true)
	f.Add([]byte{0}, bytes.Repeat([]byte("v"), 200), int64(-1), int64(300), int64(1), int64(1), false, []byte(nil),
		true, false)
	large := bytes.Repeat([]byte("L"), valueApart)
	f.Add([]byte("k"), large, int64(2), int64(3), int64(1), int64(7), false, large, true, true)
	f.Add([]byte("k"), large, int64(2), int64(3), int64(1), int64(0), false, []byte("old"), true, true)
	f.Add([]byte("k"), []byte(nil), int64(0), int64(3), int64(0), int64(0), true, large, true, true)
	f.Fuzz(func(t *testing.T, key, value []byte, create, mod, version, lease int64, del bool, prev []byte, hasPrev,
		withPrev bool,
	) {
		kv := revlog.KV{Key: key, Value: value, Create: create, Mod: mod, Version: version, Lease: lease}
		src := revlog.Event{Delete: del, KV: kv, HasPrev: hasPrev}
		want := &mvccpb.Event{Kv: toProto(&src.KV)}
		if del {
			want.Type = mvccpb.Event_DELETE
		}
		if hasPrev {
			src.Prev = revlog.KV{Key: key, Value: prev, Create: create, Mod: mod - 1, Version: version, Lease: lease}
			if withPrev {
				want.PrevKv = toProto(&src.Prev)
			}
		}
		e := &Event{src: &src}
		first := e.Wire(withPrev)
		got := first.Materialize()
		std, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.WatchResponse{Events: []*mvccpb.Event{want}})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(std, got) {
			t.Errorf("got %x, want %x", got, std)
		}
		var dec pb.WatchResponse
		if err := proto.Unmarshal(got, &dec); err != nil {
			t.Fatal(err)
		}
		if len(dec.Events) != 1 || !proto.Equal(dec.Events[0], want) {
			t.Errorf("decoded %v, want %v", dec.Events, want)
		}
		if again := e.Wire(withPrev); &again[0] != &first[0] {
			t.Error("encoded twice")
		}
	})
}

func toProto(kv *revlog.KV) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: kv.Key, Value: kv.Value, CreateRevision: kv.Create, ModRevision: kv.Mod, Version: kv.Version,
		Lease: kv.Lease,
	}
}

// TestWireShares: wire forms share large values and copy small ones.
func TestWireShares(t *testing.T) {
	for size, shared := range map[int]int{10: 0, valueApart - 1: 0, valueApart: 2, 1 << 20: 2} {
		value, old := make([]byte, size), make([]byte, size)
		src := revlog.Event{KV: revlog.KV{Key: []byte("k"), Value: value, Mod: 3}, HasPrev: true}
		src.Prev = revlog.KV{Key: []byte("k"), Value: old, Mod: 2}
		n := 0
		for _, part := range (&Event{src: &src}).Wire(true) {
			if data := part.ReadOnlyData(); &data[0] == &value[0] || &data[0] == &old[0] {
				n++
			}
		}
		if n != shared {
			t.Errorf("%d of 2 values of %d bytes are shared, want %d", n, size, shared)
		}
	}
}

// TestWireTogether: streams that make the wire form of an event at the same time all send the previous value, and so
// does who comes later: the first of them lets go of the value that has been read.
func TestWireTogether(t *testing.T) {
	const streams, events = 8, 20_000
	kv := revlog.KV{Key: []byte("k"), Value: []byte("v"), Create: 2, Mod: 3, Version: 2}
	prev := revlog.KV{Key: kv.Key, Create: 2, Mod: 2, Version: 1, Place: revlog.PlaceOwn, Size: 1 << 10}
	src := revlog.Event{KV: kv, Prev: prev, HasPrev: true}
	full := src
	full.Prev.Value = bytes.Repeat([]byte("p"), prev.Size)
	want := (&Event{src: &full}).Wire(true).Len()
	for i := range events {
		e := &Event{src: &src}
		unread{e, true}.set(full.Prev.Value)
		var wg sync.WaitGroup
		var lengths [streams + 1]int
		begin := make(chan struct{})
		for j := range streams {
			wg.Go(func() {
				<-begin
				lengths[j] = e.Wire(true).Len()
			})
		}
		close(begin)
		wg.Wait()
		lengths[streams] = e.Wire(true).Len()
		for _, n := range lengths {
			if n != want {
				t.Fatalf("event %d: %v, want %d", i, lengths, want)
			}
		}
	}
}
