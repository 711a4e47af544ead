package refetcd

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/headwaterdb/headwater/libs/porttest"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

const (
	startTimeout = 2 * time.Minute
	// bcryptCost is the lowest possible cost. A hash takes a millisecond instead of a hundred.
	bcryptCost = 4
)

// Server is one etcd in this process.
type Server struct {
	dir       string
	addr      string
	release   func() // of addr
	etcd      *embed.Etcd
	configure []func(*embed.Config)
}

// Start runs an etcd of one member on a free port of 127.0.0.1 with a fresh data directory. The functions in configure
// change its configuration. The caller ends it with Remove.
func Start(configure ...func(*embed.Config)) (*Server, error) {
	dir, err := os.MkdirTemp("", "etcd-data-")
	if err != nil {
		return nil, err
	}
	s, err := open(dir, configure...)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

// Open runs an etcd on an existing data directory, such as etcdutl makes from a snapshot for a member with PeerURL. The
// caller ends it with Remove, which deletes the directory.
func Open(dir string) (*Server, error) {
	return open(dir)
}

func open(dir string, configure ...func(*embed.Config)) (*Server, error) {
	addr, release, err := porttest.Reserve() // Restart needs it again
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, addr: addr, release: release, configure: configure}
	if err := s.Restart(); err != nil {
		release()
		return nil, err
	}
	return s, nil
}

// PeerURL is the advertised peer URL of every Server; nobody listens there.
const PeerURL = "http://127.0.0.1:1"

// Restart runs etcd on the data directory again, on the same address. It must have been stopped.
func (s *Server) Restart() error {
	cfg := embed.NewConfig()
	cfg.Dir = s.dir
	cfg.UnsafeNoFsync = true
	cfg.BcryptCost = bcryptCost
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	client, free := url.URL{Scheme: "http", Host: s.addr}, url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	// A single member never dials a peer, so nothing has to listen on the advertised peer address.
	cfg.ListenPeerUrls = []url.URL{free}
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: strings.TrimPrefix(PeerURL, "http://")}}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	for _, f := range s.configure {
		f(cfg)
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		e.Close()
		return fmt.Errorf("start etcd: %w", err)
	case <-timeout.C:
		e.Close()
		return errors.New("start etcd: not ready in time")
	}
	s.etcd = e
	return nil
}

// Addr returns host:port of the client listener.
func (s *Server) Addr() string { return s.addr }

// Stop ends etcd and keeps the data directory.
func (s *Server) Stop() {
	if s.etcd != nil {
		s.etcd.Close()
		s.etcd = nil
	}
}

// Remove ends etcd and deletes its data.
func (s *Server) Remove() {
	s.Stop()
	s.release()
	os.RemoveAll(s.dir)
}
