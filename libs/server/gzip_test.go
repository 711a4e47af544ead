package server

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestCompressed: requests may be compressed, and what they are then is bounded as others are. The test must not import
// the compressor itself.
func TestCompressed(t *testing.T) {
	r := start(t, func(c *serverSettings) { c.MaxRequestBytes = 1 << 20 })
	kv := pb.NewKVClient(r.dial(t, 0))
	for size, want := range map[int]codes.Code{1: codes.OK, 1 << 20: codes.OK, 2 << 20: codes.ResourceExhausted} {
		value := []byte(strings.Repeat("v", size))
		_, err := kv.Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: value}, grpc.UseCompressor("gzip"))
		if status.Code(err) != want {
			t.Errorf("%d bytes: %v, want %v", size, err, want)
		}
	}
}
