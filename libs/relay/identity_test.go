package relay_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/headwaterdb/headwater/libs/relay"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/tlsconf"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
	"github.com/headwaterdb/headwater/libs/wire"
)

// whoami answers with the name that the client's certificate has.
type whoami struct{ pb.UnimplementedLeaseServer }

func (whoami) LeaseGrant(ctx context.Context, _ *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	id, ok := tlsconf.FromContext(ctx)
	if !ok {
		return &pb.LeaseGrantResponse{Error: "nobody"}, nil
	}
	return &pb.LeaseGrantResponse{Error: id.CommonName}, nil
}

// serve serves what register adds, on a listener with o's TLS (nil: without).
func serve(t *testing.T, o *tlsconf.Options, register func(grpc.ServiceRegistrar)) (url string) {
	t.Helper()
	u, own := "http://127.0.0.1:0", (*tlsconf.TLS)(nil)
	if o != nil {
		var err error
		if own, err = tlsconf.Open(*o); err != nil {
			t.Fatal(err)
		}
		u = "https://127.0.0.1:0"
	}
	l, url, err := server.ListenPrivate(t.Context(), u, own)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(tlsconf.ServerCredentials()), grpc.ForceServerCodecV2(wire.Codec{}))
	register(g)
	served := server.NewOperators(g,
		server.HTTPOptions{Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	served.Serve(l)
	t.Cleanup(served.Stop)
	return url
}

// TestWhoIsToldBetweenPods: the owner of a service knows the client of a call that another pod passes on, only over
// mutual TLS from a pod whose name is allowed; what the client says of itself never counts, and the pod's own
// certificate is never taken for the client's.
func TestWhoIsToldBetweenPods(t *testing.T) {
	ca := tlstest.New(t, "ca") // one for clients and pods, as is common
	pod, alice := ca.Issue("pod", tlstest.Name{CN: "pod", Hosts: []string{"127.0.0.1"}}),
		ca.Issue("alice", tlstest.Name{CN: "alice"})
	options := func(use string) *tlsconf.Options {
		return &tlsconf.Options{Use: use, CertFile: pod.CertFile, KeyFile: pod.KeyFile, TrustedCAFile: ca.CAFile}
	}
	named, nameless, asClient := options("peer"), options("peer"), options("client")
	named.Peer, named.AllowedCNs, nameless.Peer = true, []string{"pod"}, true
	conf := ca.Client(alice)
	conf.ServerName = "127.0.0.1"
	for _, c := range []struct {
		name, want string
		owner      *tlsconf.Options // the listener that the call is passed on to
	}{
		{"a pod that is named", "alice", named},
		{"a pod without a name that is allowed", "nobody", nameless},
		{"the listener for clients", "nobody", asClient},
		{"without TLS", "nobody", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			owner := serve(t, c.owner, func(r grpc.ServiceRegistrar) { pb.RegisterLeaseServer(r, whoami{}) })
			o := relay.Options{Name: "test", Endpoints: []string{owner}, AnyHealth: true}
			if c.owner != nil {
				peer, err := tlsconf.Open(*named)
				if err != nil {
					t.Fatal(err)
				}
				o.Credentials = peer.ClientCredentials()
			}
			pool, err := relay.NewPool(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { pool.Close() })
			front := serve(t, asClient, func(r grpc.ServiceRegistrar) { pool.Register(r, &pb.Lease_ServiceDesc) })
			if got := ask(t, front, conf); got != c.want {
				t.Errorf("the owner knows the client as %q, want %q", got, c.want)
			}
			if got := ask(t, front, conf, tlsconf.ClientMetadata, "names=eyJjbiI6InJvb3QifQ=="); got == "root" ||
				got == "pod" {
				t.Errorf("a client that says that it is root is %q", got)
			}
		})
	}
	t.Run("a client at the listener for pods", func(t *testing.T) {
		owner := serve(t, named, func(r grpc.ServiceRegistrar) { pb.RegisterLeaseServer(r, whoami{}) })
		if got := ask(t, owner, conf, tlsconf.ClientMetadata,
			"names=eyJjbiI6InJvb3QifQ=="); !strings.HasPrefix(got, "rpc error") {
			t.Errorf("it is %q", got)
		}
	})
}

// ask calls LeaseGrant at url, and returns the answer or the error.
func ask(t *testing.T, url string, c *tls.Config, pairs ...string) string {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(url, "https://"),
		grpc.WithTransportCredentials(credentials.NewTLS(c)))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), pairs...), 2*time.Minute)
	defer cancel()
	resp, err := pb.NewLeaseClient(cc).LeaseGrant(ctx, &pb.LeaseGrantRequest{})
	if err != nil {
		return err.Error()
	}
	return resp.Error
}
