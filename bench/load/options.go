package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Limits of the tool.
const (
	connsMax   = 10_000
	clientsMax = 1_000_000
	// requestTimeout ends a request that no server answered; it is counted as an error.
	requestTimeout = 60 * time.Second
)

// Options are what all loads share. The zero value is not usable; see Validate.
type Options struct {
	Endpoints   []string
	Conns       int           // gRPC connections
	Clients     int           // concurrent requests; client i uses connection i mod Conns
	DialTimeout time.Duration // zero: 10 s
	TLS         bool          // connections have TLS; the server's certificate is not checked
	User        string        // name:password of who sends the requests; empty: nobody

	Total    int64         // requests to send when Duration is zero
	Duration time.Duration // length of the window
	Warmup   time.Duration // load before the window, with Duration only
	Rate     float64       // requests per second of an open loop; zero is a closed loop

	Prefix     string // of all keys
	KeySize    int    // bytes, prefix included
	ValSize    int    // bytes
	KeySpace   int64  // number of possible keys
	Sequential bool   // keys 0, 1, 2, … (mod KeySpace) in place of random ones
	Seed       uint64
	// Keyspaces is how many keyspaces the writes of Put go to in turn, see KeyspaceName; 0: to the one that the server
	// takes by itself.
	Keyspaces int

	Verify    bool // compare the server's revision with the acknowledged writes
	ServerPID int  // measure CPU and memory of this process, if not zero
}

// RevisionKey is the key that the loads read to learn the server's revision. A user who sends a load needs to read it.
const RevisionKey = "\x00"

// KeyspaceName is the name of the i-th of Options.Keyspaces.
func KeyspaceName(i int64) string { return fmt.Sprint("bench", i) }

// keyspaceKey is the metadata by which a call names its keyspace.
const keyspaceKey = "headwater-keyspace"

// in returns ctx for a call to the keyspace of request n.
func (o *Options) in(ctx context.Context, n int64) context.Context {
	if o.Keyspaces == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, keyspaceKey, KeyspaceName(n%int64(o.Keyspaces)))
}

// Validate returns the first thing that is wrong with o.
func (o *Options) Validate() error {
	switch {
	case len(o.Endpoints) == 0:
		return errors.New("no endpoints")
	case o.Conns < 1 || o.Conns > connsMax:
		return fmt.Errorf("conns must be in [1, %d]", connsMax)
	case o.Clients < 1 || o.Clients > clientsMax:
		return fmt.Errorf("clients must be in [1, %d]", clientsMax)
	case o.Duration <= 0 && o.Total <= 0:
		return errors.New("either total or duration must be positive")
	case o.Duration <= 0 && o.Warmup > 0:
		return errors.New("a warm-up needs a duration")
	case o.Rate < 0 || o.Warmup < 0:
		return errors.New("rate and warm-up must not be negative")
	case o.KeySpace < 1:
		return errors.New("key-space-size must be positive")
	case o.Keyspaces < 0 || o.Keyspaces > 0 && o.Verify:
		return errors.New("keyspaces must not be negative, and each has revisions of its own: " +
			"with them nothing is verified")
	case o.ValSize < 0:
		return errors.New("val-size must not be negative")
	}
	_, err := newKeys(o.Prefix, o.KeySize, o.KeySpace)
	return err
}

// Dial opens the connections. Connection i goes to endpoint i mod len(Endpoints). Close them with closeAll.
func dial(o Options) ([]*clientv3.Client, error) {
	timeout := o.DialTimeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	var secure *tls.Config
	if o.TLS {
		secure = &tls.Config{
			InsecureSkipVerify: true,
			MinVersion:         tls.VersionTLS12,
		} // only for a server that this host has started
	}
	name, password, _ := strings.Cut(o.User, ":")
	conns := make([]*clientv3.Client, 0, o.Conns)
	for i := range o.Conns {
		c, err := clientv3.New(clientv3.Config{
			Endpoints:   []string{o.Endpoints[i%len(o.Endpoints)]},
			DialTimeout: timeout,
			TLS:         secure,
			Username:    name,
			Password:    password,
			Logger:      zap.NewNop(),
		})
		if err != nil {
			closeAll(conns)
			return nil, fmt.Errorf("dial %s: %w", o.Endpoints[i%len(o.Endpoints)], err)
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func closeAll(conns []*clientv3.Client) {
	for _, c := range conns {
		_ = c.Close() // only ever reports the cancellation of its own context
	}
}
