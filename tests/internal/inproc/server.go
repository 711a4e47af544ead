package inproc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/wire"
	"google.golang.org/grpc"
)

const (
	memberID = 1
	raftTerm = 2

	progressInterval = 200 * time.Millisecond
	// maxMessageBytes is more than package load sends.
	maxMessageBytes = 16 << 20

	// readLogEntries and readLogBytes bound one read of Log.
	readLogEntries = 1000
	readLogBytes   = 4 << 20
)

// Config says what to serve. Engine and Listener must be set; the Server closes the listener, not the engine.
type Config struct {
	Engine   engine.Store
	Listener net.Listener
	MVCC     mvcc.Options // Feed, Committed and Logger are set here
	Logger   *slog.Logger
	// NoLeases leaves out the Lease service. Of several servers on one engine only one can own the leases.
	NoLeases bool
}

// Server is a running server.
type Server struct {
	grpc     *grpc.Server
	listener *listener
	store    *mvcc.Store
	feed     *fanOut
	stop     context.CancelFunc
	wg       sync.WaitGroup
	leases   error // read after wg
}

// Start opens the keyspace in the engine, which it creates if necessary, loads its leases and serves it.
func Start(ctx context.Context, c Config) (*Server, error) {
	s := &Server{stop: func() {}, feed: newFanOut(&c.MVCC, c.Engine.Limits().Pipelined)}
	c.MVCC.Logger = c.Logger
	var err error
	if s.store, err = mvcc.Open(ctx, c.Engine, c.MVCC); err != nil {
		return nil, errors.Join(fmt.Errorf("inproc: %w", err), s.feed.close())
	}
	if err := s.feed.start(ctx, s.store, c.Logger); err != nil {
		return nil, errors.Join(fmt.Errorf("inproc: %w", err), s.feed.close(), s.store.Close())
	}
	s.grpc = grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}), grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.WaitForHandlers(true))
	header := etcdapi.Header{ClusterID: s.store.Meta().ClusterID, MemberID: memberID, RaftTerm: raftTerm}
	etcdapi.RegisterKV(s.grpc, s.store, header, etcdapi.KVOptions{})
	etcdapi.RegisterWatch(s.grpc, s.feed, header, etcdapi.WatchOptions{})
	if !c.NoLeases {
		if err := s.startLeases(ctx, header, c.Logger); err != nil {
			return nil, errors.Join(fmt.Errorf("inproc: %w", err), s.feed.close(), s.store.Close())
		}
	}
	s.listener = &listener{Listener: c.Listener, conns: map[net.Conn]struct{}{}}
	// Its error only says that Stop has closed the listener.
	s.wg.Go(func() { _ = s.grpc.Serve(s.listener) })
	return s, nil
}

// startLeases serves leases when it has loaded them.
func (s *Server) startLeases(ctx context.Context, header etcdapi.Header, logger *slog.Logger) error {
	keeper, err := lease.New(s.store, lease.Options{Logger: logger})
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.wg.Go(func() { s.leases = keeper.Run(run) })
	if _, err := keeper.Leases(ctx); err != nil { // waits until they are loaded
		stop()
		s.wg.Wait()
		return err
	}
	etcdapi.RegisterLease(s.grpc, keeper, header, s.store)
	return nil
}

// Stop cuts all connections, then waits for the requests under way and closes everything but the engine. In between it
// calls cut if it is not nil. At that moment clients have received all the answers that they will ever get, while the
// server is still at work. That is the moment of a crash.
func (s *Server) Stop(cut func()) error {
	s.listener.cut()
	if cut != nil {
		cut()
	}
	s.feed.drain()
	s.grpc.Stop() // waits for handlers
	s.stop()
	s.wg.Wait()
	return errors.Join(s.feed.close(), s.store.Close(), s.leases)
}

// Usage returns the counters of this server's store.
func (s *Server) Usage() *mvcc.Usage { return s.store.Usage() }

// Log reads the whole log that is left after compaction.
func (s *Server) Log(ctx context.Context) ([]revlog.Entry, error) { return ReadLog(ctx, s.store) }

// ReadLog reads the whole log that is left after compaction.
func ReadLog(ctx context.Context, store *mvcc.Store) ([]revlog.Entry, error) {
	head, err := store.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("inproc: %w", err)
	}
	var log []revlog.Entry
	for from := max(1, store.CompactRevision()); from <= head; {
		entries, next, err := store.ReadLog(ctx, from, readLogEntries, readLogBytes)
		if err != nil {
			return nil, fmt.Errorf("inproc: read log: %w", err)
		}
		if err := store.Fill(ctx, entries); err != nil {
			return nil, fmt.Errorf("inproc: read values of the log: %w", err)
		}
		log = append(log, entries...)
		from = next
	}
	return log, nil
}

// listener remembers its connections, so that they can be cut.
type listener struct {
	net.Listener
	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil after cut
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	l.conns[c] = struct{}{}
	return c, nil
}

// cut closes the listener and all connections.
func (l *listener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Close()
	for c := range l.conns {
		c.Close()
	}
	l.conns = nil
}
