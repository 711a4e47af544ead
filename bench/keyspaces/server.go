package keyspaces

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// startTimeout bounds the start of a server, stopTimeout its end.
const (
	startTimeout = 20 * time.Second
	stopTimeout  = 10 * time.Second
)

// server is a headwater process of the run's own.
type server struct {
	cmd    *exec.Cmd
	url    string
	socket string // of the admin API
	admin  adminv1.KeyspacesClient

	clients []*clientv3.Client // of users
	closes  []func() error
}

// start starts a server on an empty directory below dir.
func start(ctx context.Context, o Options, flags ...string) (_ *server, err error) {
	dir, err := os.MkdirTemp(o.Dir, "keyspaces-")
	if err != nil {
		return nil, err
	}
	s := &server{url: fmt.Sprintf("http://127.0.0.1:%d", o.Port)}
	s.closes = append(s.closes, func() error { return os.RemoveAll(dir) })
	s.cmd = exec.Command(o.Headwater, append([]string{ // close ends it in order
		"--data-dir=" + filepath.Join(dir, "data"), "--listen-client-urls=" + s.url, "--advertise-client-urls=" + s.url,
		"--log-level=error",
	}, flags...)...)
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.socket = filepath.Join(dir, "data", "admin.sock")
	conn, err := grpc.NewClient("unix://"+s.socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.closes = append(s.closes, conn.Close)
	s.admin = adminv1.NewKeyspacesClient(conn)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		_, err := s.admin.List(ctx, &adminv1.ListRequest{}, grpc.WaitForReady(true))
		if err == nil {
			var d net.Dialer
			c, dialErr := d.DialContext(ctx, "tcp", s.url[len("http://"):])
			if dialErr == nil {
				return s, c.Close()
			}
			err = dialErr
		}
		if ctx.Err() != nil {
			return nil, errors.Join(err, s.close())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// close ends the server, and everything else in the order opposite to opening.
func (s *server) close() (err error) {
	if p := s.cmd.Process; p != nil {
		ended := make(chan error, 1)
		go func() { ended <- s.cmd.Wait() }()
		_ = p.Signal(syscall.SIGTERM)
		select {
		case err = <-ended:
		case <-time.After(stopTimeout):
			_ = p.Kill()
			err = errors.Join(errors.New("the server has not ended by itself"), <-ended)
		}
	}
	for i := len(s.closes) - 1; i >= 0; i-- {
		err = errors.Join(err, s.closes[i]())
	}
	s.closes = nil
	return err
}

// create creates the keyspaces ks0 to ks<n-1>.
func (s *server) create(ctx context.Context, n int) error {
	for i := range n {
		if _, err := s.admin.Create(ctx, &adminv1.CreateRequest{Name: name(i)}); err != nil {
			return err
		}
	}
	return nil
}

func name(i int) string { return fmt.Sprint("ks", i) }

// in is a context for calls to a keyspace.
func in(ctx context.Context, keyspace string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "headwater-keyspace", keyspace)
}

// client opens a client with a connection of its own.
func (s *server) client() (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.url}, Logger: zap.NewNop()})
	if err == nil {
		s.closes = append(s.closes, c.Close)
	}
	return c, err
}

// connect makes the clients of users at least n.
func (s *server) connect(n int) error {
	for len(s.clients) < n {
		c, err := s.client()
		if err != nil {
			return err
		}
		s.clients = append(s.clients, c)
	}
	return nil
}
