package watch

import (
	"bytes"
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
	f.Add([]byte{0}, bytes.Repeat([]byte("v"), 200), int64(-1), int64(300), int64(1), int64(1), false, []byte(nil), true, false)
	f.Fuzz(func(t *testing.T, key, value []byte, create, mod, version, lease int64, del bool, prev []byte, hasPrev, withPrev bool) {
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
		got := e.Wire(withPrev).ReadOnlyData()
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
		if again := e.Wire(withPrev).ReadOnlyData(); &again[0] != &got[0] {
			t.Error("encoded twice")
		}
	})
}

func toProto(kv *revlog.KV) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: kv.Key, Value: kv.Value, CreateRevision: kv.Create, ModRevision: kv.Mod, Version: kv.Version, Lease: kv.Lease,
	}
}
