package etcdapi

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// FuzzKeepAliveRequest: the decoder by hand accepts what protobuf accepts, and reads the same.
func FuzzKeepAliveRequest(f *testing.F) {
	for _, id := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64} {
		b, err := proto.Marshal(&pb.LeaseKeepAliveRequest{ID: id})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, b...))
		f.Add(append([]byte{0x12, 3, 1, 2, 3, 0x0d, 1, 2, 3, 4, 0x1b, 0x08, 7, 0x1c}, b...)) // other fields, wrong types, a group
	}
	f.Add([]byte{0x08})
	f.Add([]byte{0x0a, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		var want pb.LeaseKeepAliveRequest
		var got keepAliveRequest
		got.id = 99 // is reused from request to request
		wantErr, gotErr := proto.Unmarshal(b, &want), got.UnmarshalWire(bytes.Clone(b))
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("%x: error %v, protobuf: %v", b, gotErr, wantErr)
		}
		if wantErr == nil && got.id != want.ID {
			t.Fatalf("%x: id %d, protobuf: %d", b, got.id, want.ID)
		}
	})
}

// TestKeepAliveResponse: the bytes are those of protobuf.
func TestKeepAliveResponse(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	number := func() uint64 { // of every size
		if r.IntN(8) == 0 {
			return 0
		}
		return r.Uint64() >> r.IntN(64)
	}
	for range 10_000 {
		h := Header{ClusterID: number(), MemberID: number(), RaftTerm: number()}
		rev, id, ttl := int64(number()), int64(number()), int64(number())
		want, err := proto.Marshal(&pb.LeaseKeepAliveResponse{Header: h.At(rev), ID: id, TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		got, err := keepAliveEncoder{newHeaderCodec(h)}.response(rev, id, ttl).MarshalWire()
		if err != nil {
			t.Fatal(err)
		}
		if b := got.Materialize(); !bytes.Equal(b, want) || cap(got[0].ReadOnlyData()) != len(want) {
			t.Fatalf("%+v rev %d id %d ttl %d: %x (cap %d), want %x", h, rev, id, ttl, b, cap(got[0].ReadOnlyData()),
				want)
		}
	}
}
