package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// asked is a service that says who asks, and for what host.
type asked struct {
	pb.UnimplementedKVServer
}

func (asked) Put(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
	p, _ := peer.FromContext(ctx)
	md, _ := metadata.FromIncomingContext(ctx)
	name := "nobody"
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
		name = info.State.PeerCertificates[0].Subject.CommonName
	}
	text := fmt.Sprint(name, " ", p.Addr, " ", md[":authority"], md[callerKey], md["a"])
	return nil, status.Error(codes.AlreadyExists, text)
}

// fakeConn is a connection with an address.
type fakeConn struct {
	net.Conn
	port int
}

func (c fakeConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: c.port} }

// TestLocalCaller: a local call is that of the client of the HTTP request, with the host that it asked for, whatever
// its metadata says.
func TestLocalCaller(t *testing.T) {
	g := NewGRPC(GRPCOptions{MaxRequestBytes: 1 << 20, Local: true, Log: slog.New(slog.DiscardHandler)})
	pb.RegisterKVServer(g, asked{})
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := g.serveLocal(); err != nil {
			t.Error(err)
		}
	})
	defer serving.Wait()
	defer g.Close()
	client := pb.NewKVClient(g.Local())
	put := func(ctx context.Context) string {
		_, err := client.Put(metadata.AppendToOutgoingContext(ctx, callerKey, "1", "a", "b"), &pb.PutRequest{})
		return status.Convert(err).Message()
	}
	handler := withCaller(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		addr := fmt.Sprint(r.Context().Value(connKey{}))
		name := "nobody"
		if r.TLS != nil {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		want := fmt.Sprintf("%s %s [%s] [] [b]", name, addr, r.Host)
		if got := strings.ReplaceAll(put(r.Context()), "][", "] ["); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}))
	for i, name := range []string{"", "alice", "bob", "carol"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://host-%d:80/", i), nil)
		if name != "" {
			cert := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
		}
		handler.ServeHTTP(httptest.NewRecorder(), r.WithContext(noteConn(r.Context(), fakeConn{port: i})))
	}
	if got := put(t.Context()); got != status.Convert(errNoCaller).Message() {
		t.Errorf("without a request: %q", got)
	}
	// What reaches the server otherwise has nobody to speak for it.
	ctx := metadata.AppendToOutgoingContext(t.Context(), callerKey, "1")
	_, err := pb.NewKVClient(g.Local().conn).Put(ctx, &pb.PutRequest{})
	if status.Convert(err).Message() != status.Convert(errNoCaller).Message() {
		t.Error(err)
	}
	if n := len(g.Local().callers); n != 0 {
		t.Errorf("%d callers are left", n)
	}
}
