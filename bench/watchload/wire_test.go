package watchload

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// scanned is a watchResponse in a form that can be compared.
type scanned struct {
	ID, Revision, Compact int64
	Created, Canceled     bool
	Reason                string
	Events                []event
}

func (r *watchResponse) seen() scanned {
	return scanned{
		r.id, r.revision, r.compactRevision, r.created, r.canceled, r.reason, append([]event(nil), r.events...),
	}
}

// decoded is what the scanner should see of m.
func decoded(m *pb.WatchResponse) scanned {
	s := scanned{m.WatchId, m.Header.GetRevision(), m.CompactRevision, m.Created, m.Canceled, m.CancelReason, nil}
	for _, ev := range m.Events {
		e := event{rev: ev.Kv.GetModRevision(), version: ev.Kv.GetVersion(), stamp: -1, prev: ev.PrevKv != nil}
		if v := ev.Kv.GetValue(); len(v) >= stampBytes {
			e.stamp = int64(binary.LittleEndian.Uint64(v))
		}
		s.Events = append(s.Events, e)
	}
	return s
}

// pieces cuts b at random.
func pieces(rnd *rand.Rand, b []byte) (s mem.BufferSlice) {
	for len(b) > 0 {
		n := 1 + rnd.IntN(len(b))
		if rnd.IntN(4) > 0 {
			n = min(n, 1+rnd.IntN(6))
		}
		s = append(s, mem.SliceBuffer(b[:n]))
		if rnd.IntN(4) == 0 {
			s = append(s, mem.SliceBuffer(nil))
		}
		b = b[n:]
	}
	return s
}

func randomResponse(rnd *rand.Rand) *pb.WatchResponse {
	m := &pb.WatchResponse{WatchId: rnd.Int64N(200), Created: rnd.IntN(2) == 0}
	if rnd.IntN(4) > 0 {
		m.Header = &pb.ResponseHeader{
			ClusterId: rnd.Uint64(), MemberId: rnd.Uint64(), Revision: rnd.Int64(), RaftTerm: 2,
		}
	}
	if rnd.IntN(4) == 0 {
		m.Canceled, m.CancelReason, m.CompactRevision, m.Fragment = true, "for a reason", rnd.Int64(), true
	}
	for range rnd.IntN(4) {
		kv := func() *mvccpb.KeyValue {
			v := make([]byte, rnd.IntN(40))
			for i := range v {
				v[i] = byte(rnd.Uint32())
			}
			return &mvccpb.KeyValue{
				Key: []byte("key"), CreateRevision: 3, ModRevision: rnd.Int64(), Version: rnd.Int64N(3), Value: v,
				Lease: rnd.Int64N(2),
			}
		}
		ev := &mvccpb.Event{Kv: kv()}
		if rnd.IntN(2) == 0 {
			ev.PrevKv = kv()
		}
		m.Events = append(m.Events, ev)
	}
	return m
}

func TestScan(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var r watchResponse // reused, as on a stream
	for range 2000 {
		m := randomResponse(rnd)
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.scan(pieces(rnd, b)); err != nil {
			t.Fatalf("%v: %v", m, err)
		}
		if d := cmp.Diff(decoded(m), r.seen(), cmp.AllowUnexported(event{})); d != "" {
			t.Fatalf("%v: %s", m, d)
		}
	}
}

func TestScanDelete(t *testing.T) {
	b, err := proto.Marshal(&pb.WatchResponse{Events: []*mvccpb.Event{{
		Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	var r watchResponse
	if err := r.scan(mem.BufferSlice{mem.SliceBuffer(b)}); err == nil {
		t.Error("a delete passed as a put")
	}
}

func TestAnswerAndPut(t *testing.T) {
	b, err := proto.Marshal(&pb.PutResponse{
		Header: &pb.ResponseHeader{ClusterId: 1, Revision: 77}, PrevKv: &mvccpb.KeyValue{Key: []byte("k")},
	})
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := a.scan(mem.BufferSlice{mem.SliceBuffer(b)}); err != nil || a.revision != 77 {
		t.Errorf("revision %d, %v; want 77", a.revision, err)
	}
	var p pb.PutRequest
	if err := proto.Unmarshal(appendPut(nil, "key", 5, "body"), &p); err != nil {
		t.Fatal(err)
	}
	if string(p.Key) != "key" || string(p.Value) != "\x05\x00\x00\x00\x00\x00\x00\x00body" {
		t.Errorf("put %q = %q", p.Key, p.Value)
	}
}

// FuzzScan checks that no bytes make the scanner panic, that it does not matter how they are cut into pieces, and that
// the scanner sees as many events as protobuf does if both can read the message.
func FuzzScan(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		b, err := proto.Marshal(randomResponse(rnd))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint64(3))
	}
	f.Add([]byte{0x5a, 0x80}, uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		var whole, cut watchResponse
		wholeErr := whole.scan(mem.BufferSlice{mem.SliceBuffer(b)})
		cutErr := cut.scan(pieces(rand.New(rand.NewPCG(seed, 0)), b))
		if (wholeErr == nil) != (cutErr == nil) {
			t.Fatalf("whole: %v, cut: %v", wholeErr, cutErr)
		}
		if d := cmp.Diff(whole.seen(), cut.seen(), cmp.AllowUnexported(event{})); wholeErr == nil && d != "" {
			t.Fatal(d)
		}
		var m pb.WatchResponse
		if proto.Unmarshal(b, &m) == nil && wholeErr == nil && len(m.Events) != len(whole.events) {
			t.Fatalf("%d events, protobuf reads %d", len(whole.events), len(m.Events))
		}
	})
}
