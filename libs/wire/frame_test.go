package wire

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// pieces cuts b into buffers of so many bytes.
func pieces(b []byte, size int) (s mem.BufferSlice) {
	for len(b) > 0 {
		n := min(size, len(b))
		s = append(s, mem.SliceBuffer(b[:n]))
		b = b[n:]
	}
	return s
}

// TestHeaderRevision: responses of all kinds of fields behind the header, however they are cut, and what is none.
func TestHeaderRevision(t *testing.T) {
	encode := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	header := func(rev int64) *pb.ResponseHeader {
		return &pb.ResponseHeader{
			ClusterId: math.MaxUint64, MemberId: math.MaxUint64, RaftTerm: math.MaxUint64, Revision: rev,
		}
	}
	for _, rev := range []int64{0, 1, 300, math.MaxInt64} {
		for name, b := range map[string][]byte{
			"range":      encode(&pb.RangeResponse{Header: header(rev), Count: 7}),
			"watch":      encode(&pb.WatchResponse{Header: header(rev), WatchId: 9, Created: true}),
			"keep-alive": encode(&pb.LeaseKeepAliveResponse{Header: header(rev), ID: 5}),
			"bare":       encode(&pb.PutResponse{Header: &pb.ResponseHeader{Revision: rev}}),
		} {
			for size := 1; size <= len(b); size++ {
				if got := (&Frame{data: pieces(b, size)}).HeaderRevision(); got != rev {
					t.Errorf("%s in pieces of %d: revision %d, want %d", name, size, got, rev)
				}
			}
		}
	}
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"another field":    encode(&pb.WatchResponse{WatchId: 9}),
		"an empty header":  encode(&pb.PutResponse{Header: &pb.ResponseHeader{}}),
		"a cut header":     encode(&pb.PutResponse{Header: header(1 << 60)})[:30],
		"a cut length":     {0x0a},
		"bytes of a value": encode(&pb.RangeRequest{Key: bytes.Repeat([]byte("k"), 200)}),
	} {
		if got := (&Frame{data: pieces(b, 1<<10)}).HeaderRevision(); got != 0 {
			t.Errorf("%s: revision %d", name, got)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 100_000 { // nothing makes it panic
		b := make([]byte, r.IntN(80))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if len(b) > 0 && r.IntN(2) == 0 {
			b[0] = 0x0a
		}
		(&Frame{data: pieces(b, 1+r.IntN(80))}).HeaderRevision()
	}
}
