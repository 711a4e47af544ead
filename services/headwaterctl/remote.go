package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// keepAlive is how long a remote etcd may be silent before it gets a ping, and how long the answer may take.
const keepAlive = 10 * time.Second

// reasonTimeout bounds the connection that finds out why an etcd does not answer.
const reasonTimeout = 5 * time.Second

// window is how many bytes of a stream the other side may send before they are read.
const window = 8 << 20

// remote is an etcd, or a server with its API. Flags that begin with its name say how to reach it.
type remote struct {
	name                      string
	endpoints                 []string
	keyspace                  string
	caFile, certFile, keyFile string
	user                      user
}

// flags adds the flags of a remote etcd.
func (r *remote) flags(cmd *cobra.Command, name string, byDefault ...string) {
	r.name = name
	f := cmd.Flags()
	f.StringSliceVar(&r.endpoints, name, byDefault, "URLs of the etcd's members, such as https://etcd:2379")
	f.StringVar(&r.caFile, name+"-cacert", "", "authorities (PEM) of the etcd's certificates (default: the system's)")
	f.StringVar(&r.certFile, name+"-cert", "", "certificate (PEM) to show to the etcd")
	f.StringVar(&r.keyFile, name+"-key", "", "key (PEM) of --"+name+"-cert")
	f.StringVar(&r.user.name, name+"-user", "",
		"name[:password] of a user with the role root, if the etcd has authentication enabled")
	f.StringVar(&r.user.password, name+"-password", "", "the user's password (default $"+passwordEnv+")")
}

// keyspaceFlag adds the flag that names a keyspace, for the case that the other side is a Headwater.
func (r *remote) keyspaceFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.keyspace, r.name+"-keyspace", "",
		"name of the keyspace, if the server is a Headwater with several (default: that of calls that name none)")
}

// dial connects to the remote, and checks that it answers. The caller closes the client.
func (r *remote) dial(ctx context.Context, timeout time.Duration) (*clientv3.Client, error) {
	if len(r.endpoints) == 0 {
		return nil, usageError{fmt.Errorf("give --%s", r.name)}
	}
	c := clientv3.Config{
		Endpoints: r.endpoints, DialTimeout: timeout, Logger: zap.NewNop(), Context: ctx,
		DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAlive, DialOptions: r.options(),
	}
	if strings.HasPrefix(r.endpoints[0], secureScheme) {
		info := transport.TLSInfo{TrustedCAFile: r.caFile, CertFile: r.certFile, KeyFile: r.keyFile}
		var err error
		if c.TLS, err = info.ClientConfig(); err != nil {
			return nil, usageError{err}
		}
	}
	if r.user.name != "" {
		u := r.user.withPassword()
		c.Username, c.Password = u.name, u.password
	}
	e, err := clientv3.New(c)
	if err == nil {
		if err = probe(ctx, e, timeout); err != nil {
			e.Close()
		}
	}
	switch {
	case err == nil:
		return e, nil
	case ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.Unavailable):
		return nil, connectError{fmt.Errorf("--%s: no etcd answers at %s%s",
			r.name, strings.Join(r.endpoints, ","), reason(ctx, r.endpoints[0], c.TLS))}
	}
	return nil, fmt.Errorf("--%s: %w", r.name, err)
}

// reason returns why a URL does not answer, as far as a connection shows it: it is refused, or the certificate is not
// signed by the authorities. The client itself only reports a timeout.
func reason(ctx context.Context, endpoint string, conf *tls.Config) string {
	ctx, cancel := context.WithTimeout(ctx, reasonTimeout)
	defer cancel()
	var d interface {
		DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	} = &net.Dialer{}
	if conf != nil {
		d = &tls.Dialer{Config: conf}
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return ""
	}
	conn, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return ": " + err.Error()
	}
	conn.Close()
	return ""
}

// probe makes a small request.
func probe(ctx context.Context, e *clientv3.Client, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := e.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	return err
}

// options allow many bytes in transit, because snapshots and logs are large, and name the keyspace in every call.
func (r *remote) options() []grpc.DialOption {
	windows := []grpc.DialOption{grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(2 * window)}
	if r.keyspace == "" {
		return windows
	}
	named := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, keyspaceMetadata, r.keyspace)
	}
	return append(windows,
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
			call grpc.UnaryInvoker, o ...grpc.CallOption,
		) error {
			return call(named(ctx), method, req, reply, cc, o...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn,
			method string, open grpc.Streamer, o ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			return open(named(ctx), d, cc, method, o...)
		}),
	)
}
