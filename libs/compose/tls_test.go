package compose

import (
	"context"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
)

// TestPodsOverTLS: a lease keeper passes reads and writes on to a kv pod over mutual TLS; one whose certificate has
// another name gets nothing through. Each tells where it listens for pods as its address.
func TestPodsOverTLS(t *testing.T) {
	ca, shared := tlstest.New(t, "ca"), testEngine(t)
	start := func(k config.Kind, name, kv string) *Server {
		t.Helper()
		own := ca.Issue(name, tlstest.Name{CN: name})
		c := testConfig()
		c.Name = name
		c.ListenPeerURLs = []string{"https://127.0.0.1:0"}
		c.PeerTLS = config.TLS{
			CertFile: own.CertFile, KeyFile: own.KeyFile, TrustedCAFile: ca.CAFile, AllowedCNs: []string{"pod"},
		}
		c.KVEndpoints = []string{kv}
		s, err := Start(t.Context(), k, c, Parts{Engine: shared})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	kv := start(config.KV, "pod", nobody)
	address, err := kv.Address()
	if err != nil || !strings.HasPrefix(address, "https://127.0.0.1:") {
		t.Fatal(address, err)
	}
	put := func(s *Server) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := pb.NewKVClient(dial(t, s)).Put(ctx, &pb.PutRequest{Key: []byte("a")}, grpc.WaitForReady(true))
		return err
	}
	// A call waits until the pool has connected, or has failed to.
	known := start(config.LeaseKeeper, "pod", address)
	if err := put(known); err != nil {
		t.Error(err)
	}
	if err := put(start(config.LeaseKeeper, "stranger", address)); status.Code(err) != codes.Unavailable {
		t.Error("a pod with another name gets through: ", err)
	}
}
