package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wire"
)

var watchTestHeader = Header{ClusterID: 7, MemberID: 9, RaftTerm: 2}

// watchLog is the least store that a hub can serve: a list of entries.
type watchLog struct {
	mu      sync.Mutex
	entries []revlog.Entry
	compact int64
	live    map[string]revlog.KV
	feed    func([]revlog.Entry)
}

func (l *watchLog) head() int64 { return int64(len(l.entries)) + 1 }

func (l *watchLog) Head(context.Context) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head(), nil
}

func (l *watchLog) CompactRevision() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.compact
}

// ReadValues has nothing to read: all values are in their entries.
func (l *watchLog) ReadValues(context.Context, []*revlog.KV) ([][]byte, error) {
	return nil, errors.New("no values")
}

func (l *watchLog) ReadLog(_ context.Context, from int64, maxEntries, _ int) ([]revlog.Entry, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from < l.compact {
		return nil, 0, fmt.Errorf("%d is compacted", from)
	}
	got := l.entries[min(max(0, int(from)-2), len(l.entries)):]
	got = got[:min(maxEntries, len(got))]
	return slices.Clone(got), max(from, 2) + int64(len(got)), nil
}

// watchOp is a put, or a delete if the value is nil.
type watchOp struct{ key, value string }

const opDeleted = "\x00deleted"

func (l *watchLog) commit(ops ...watchOp) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	rev := l.head() + 1
	e := revlog.Entry{Rev: rev}
	for _, o := range ops {
		prev, has := l.live[o.key]
		ev := revlog.Event{Prev: prev, HasPrev: has, KV: revlog.KV{Key: []byte(o.key), Mod: rev}}
		if o.value == opDeleted {
			ev.Delete = true
			delete(l.live, o.key)
		} else {
			ev.KV.Value, ev.KV.Create, ev.KV.Version = []byte(o.value), rev, 1
			if has {
				ev.KV.Create, ev.KV.Version = prev.Create, prev.Version+1
			}
			l.live[o.key] = ev.KV
		}
		e.Events = append(e.Events, ev)
	}
	l.entries = append(l.entries, e)
	l.feed(l.entries[len(l.entries)-1:])
	return rev
}

func (l *watchLog) setCompact(rev int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.compact = rev
}

type watchServer struct {
	log *watchLog
	// store, if set, is what the hub reads instead of log.
	store watch.Log
	hub   *watch.Hub
	srv   *grpc.Server
	conn  *grpc.ClientConn
	// newServer makes another server than the usual one, and what services are registered with.
	newServer func() (*grpc.Server, grpc.ServiceRegistrar)
}

func startWatch(t testing.TB, o watch.Options, wo WatchOptions) *watchServer {
	t.Helper()
	checkLeaks(t)
	s := newWatchServer()
	s.serve(t, o, wo)
	return s
}

func newWatchServer() *watchServer {
	return &watchServer{log: &watchLog{compact: -1, live: map[string]revlog.KV{}}}
}

// checkLeaks fails the test if goroutines are left after its other cleanups.
func checkLeaks(t testing.TB) {
	now := goleak.IgnoreCurrent()
	t.Cleanup(func() { leaktest.None(t, now) })
}

// serve starts a hub and server on the log as it is, and a connection to it.
func (s *watchServer) serve(t testing.TB, o watch.Options, wo WatchOptions) {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	stop := s.listen(lis, o, wo)
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		t.Fatal(err)
	}
	s.conn = conn
	t.Cleanup(func() {
		_ = conn.Close()
		stop()
	})
}

// listen starts a hub and server on the log as it is.
func (s *watchServer) listen(lis net.Listener, o watch.Options, wo WatchOptions) (stop func()) {
	hub := watch.New(o)
	s.hub = hub
	s.log.mu.Lock()
	s.log.feed = hub.Apply
	var log watch.Log = s.log
	if s.store != nil {
		log = s.store
	}
	hub.Start(log, s.log.head())
	s.log.mu.Unlock()
	if s.newServer == nil {
		s.newServer = newTestServer
	}
	srv, registrar := s.newServer()
	s.srv = srv
	RegisterWatch(registrar, hub, watchTestHeader, wo)
	return serveWatch(srv, lis, hub)
}

func newTestServer() (*grpc.Server, grpc.ServiceRegistrar) {
	srv := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
	return srv, srv
}

// serveWatch serves a hub that has been started; stop closes that as well.
func serveWatch(srv *grpc.Server, lis net.Listener, hub *watch.Hub) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	return func() {
		hub.Drain()
		srv.Stop()
		hub.Close()
		<-done
	}
}

type watchClient struct {
	t testing.TB
	pb.Watch_WatchClient
}

func (s *watchServer) stream(t testing.TB) watchClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	c, err := pb.NewWatchClient(s.conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return watchClient{t, c}
}

func (c watchClient) create(r *pb.WatchCreateRequest) {
	c.t.Helper()
	if err := c.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}); err != nil {
		c.t.Fatal(err)
	}
}

func (c watchClient) cancel(id int64) {
	c.t.Helper()
	r := &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}
	if err := c.Send(&pb.WatchRequest{RequestUnion: r}); err != nil {
		c.t.Fatal(err)
	}
}

func (c watchClient) progress() {
	c.t.Helper()
	r := &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}
	if err := c.Send(&pb.WatchRequest{RequestUnion: r}); err != nil {
		c.t.Fatal(err)
	}
}

func (c watchClient) recv() *pb.WatchResponse {
	c.t.Helper()
	r, err := c.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// want receives one response and compares it with w, whose header needs only a revision.
func (c watchClient) want(w *pb.WatchResponse) {
	c.t.Helper()
	w.Header.ClusterId, w.Header.MemberId, w.Header.RaftTerm =
		watchTestHeader.ClusterID, watchTestHeader.MemberID, watchTestHeader.RaftTerm
	got := c.recv()
	if proto.Equal(w, got) {
		return // cmp takes seconds for megabytes
	}
	if diff := cmp.Diff(w, got, protocmp.Transform()); diff != "" {
		c.t.Fatalf("response (-want +got):\n%s", diff)
	}
}

// quiet shows that nothing is on its way: the next thing to come is the answer to a creation that fails.
func (c watchClient) quiet(rev int64) {
	c.t.Helper()
	c.create(&pb.WatchCreateRequest{Key: []byte("z"), RangeEnd: []byte("a")})
	c.want(wrRefused(rev, "mvcc: watcher range is empty"))
}

func wrAt(rev int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: rev} }

func wrCreated(rev, id int64) *pb.WatchResponse {
	return &pb.WatchResponse{Header: wrAt(rev), WatchId: id, Created: true}
}

func wrRefused(rev int64, reason string) *pb.WatchResponse {
	return &pb.WatchResponse{Header: wrAt(rev), WatchId: -1, Created: true, Canceled: true, CancelReason: reason}
}

func evPut(key, value string, create, mod, version int64) *mvccpb.Event {
	return &mvccpb.Event{Kv: &mvccpb.KeyValue{
		Key: []byte(key), Value: []byte(value), CreateRevision: create, ModRevision: mod, Version: version,
	}}
}

func evDel(key string, mod int64) *mvccpb.Event {
	return &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: mod}}
}

func wrEvents(rev, id int64, evs ...*mvccpb.Event) *pb.WatchResponse {
	return &pb.WatchResponse{Header: wrAt(rev), WatchId: id, Events: evs}
}

func watchPrefix(p string) *pb.WatchCreateRequest {
	end := []byte(p)
	end[len(end)-1]++
	return &pb.WatchCreateRequest{Key: []byte(p), RangeEnd: end}
}
