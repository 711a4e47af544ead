package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/wire"
)

var testHeader = Header{ClusterID: 11, MemberID: 22, RaftTerm: 2}

// fakeKeeper answers by its functions. Renewals of ids in expired wait until the channel is closed.
type fakeKeeper struct {
	rev     atomic.Int64
	grant   func(id, ttl int64) (lease.Granted, error)
	revoke  func(id int64) (int64, error)
	info    func(id int64, keys bool) (lease.Info, bool, error)
	leases  func() ([]int64, error)
	headErr atomic.Pointer[error]
	sharded bool // it is registered as such

	mu      sync.Mutex
	expired map[int64]chan error
	waiting int
}

func (k *fakeKeeper) Head(context.Context) (int64, error) {
	if err := k.headErr.Load(); err != nil {
		return 0, *err
	}
	return k.rev.Load(), nil
}

func (k *fakeKeeper) RecentHead(ctx context.Context) (int64, error) { return k.Head(ctx) }

func (k *fakeKeeper) Grant(_ context.Context, id, ttl int64) (lease.Granted, error) {
	return k.grant(id, ttl)
}
func (k *fakeKeeper) Revoke(_ context.Context, id int64) (int64, error) { return k.revoke(id) }
func (k *fakeKeeper) TimeToLive(_ context.Context, id int64, keys bool) (lease.Info, bool, error) {
	return k.info(id, keys)
}
func (k *fakeKeeper) Leases(context.Context) ([]int64, error) { return k.leases() }

func (k *fakeKeeper) expiring(id int64) chan error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.expired[id]
}

// TryRenew: leases above 1000 do not exist, the others have their id as TTL.
func (k *fakeKeeper) TryRenew(id int64) (int64, bool) {
	if k.expiring(id) != nil {
		return 0, false
	}
	if id > 1000 {
		return 0, true
	}
	return id, true
}

func (k *fakeKeeper) Renew(ctx context.Context, id int64) (int64, error) {
	ch := k.expiring(id)
	if ch == nil {
		ttl, _ := k.TryRenew(id)
		return ttl, nil
	}
	k.mu.Lock()
	k.waiting++
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.waiting--
		k.mu.Unlock()
	}()
	select {
	case err := <-ch:
		return 0, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (k *fakeKeeper) waiters() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.waiting
}

// serve starts a gRPC server on a listener in memory and returns a connection to it.
func serve(tb testing.TB, register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	tb.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
	register(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := conn.Close(); err != nil {
			tb.Error(err)
		}
		server.Stop()
		<-done
	})
	return conn
}

func serveLease(t *testing.T, k *fakeKeeper) pb.LeaseClient {
	t.Helper()
	// Not the goroutines of other tests of the package.
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { leaktest.None(t, ignore) })
	k.rev.CompareAndSwap(0, 7)
	register := RegisterLease
	if k.sharded {
		register = RegisterShardedLease
	}
	return pb.NewLeaseClient(serve(t, func(r grpc.ServiceRegistrar) { register(r, k, testHeader, k) }))
}

func TestLeaseAnswers(t *testing.T) {
	k := &fakeKeeper{
		grant:  func(id, ttl int64) (lease.Granted, error) { return lease.Granted{ID: id, TTL: ttl + 1, Rev: 8}, nil },
		revoke: func(int64) (int64, error) { return 9, nil },
		info: func(id int64, keys bool) (lease.Info, bool, error) {
			if id == 404 {
				return lease.Info{ID: id, Rev: 5}, false, nil
			}
			i := lease.Info{ID: id, TTL: 10, Remaining: -1, Rev: 6}
			if keys {
				i.Keys = [][]byte{[]byte("a"), []byte("b")}
			}
			return i, true, nil
		},
		leases: func() ([]int64, error) { return []int64{3, -1, 2}, nil },
	}
	c := serveLease(t, k)
	ctx := t.Context()
	type answer struct {
		got any
		err error
	}
	call := func(got any, err error) answer { return answer{got, err} }
	for _, x := range []struct {
		name string
		a    answer
		want any
	}{
		{
			"grant", call(c.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 5, TTL: 10})),
			&pb.LeaseGrantResponse{Header: testHeader.At(8), ID: 5, TTL: 11},
		},
		{
			"revoke", call(c.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 5})),
			&pb.LeaseRevokeResponse{Header: testHeader.At(9)},
		},
		{
			"ttl", call(c.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 5})),
			&pb.LeaseTimeToLiveResponse{Header: testHeader.At(6), ID: 5, TTL: -1, GrantedTTL: 10},
		},
		{
			"ttl with keys", call(c.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 5, Keys: true})),
			&pb.LeaseTimeToLiveResponse{Header: testHeader.At(6), ID: 5, TTL: -1, GrantedTTL: 10, Keys: [][]byte{[]byte("a"), []byte("b")}},
		},
		{
			"ttl of no lease", call(c.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 404})),
			&pb.LeaseTimeToLiveResponse{Header: testHeader.At(5), ID: 404, TTL: -1},
		},
		{
			"leases", call(c.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})),
			&pb.LeaseLeasesResponse{Header: testHeader.At(7), Leases: []*pb.LeaseStatus{{ID: 3}, {ID: -1}, {ID: 2}}},
		},
	} {
		if x.a.err != nil {
			t.Errorf("%s: %v", x.name, x.a.err)
			continue
		}
		if d := cmp.Diff(x.want, x.a.got, protocmp.Transform()); d != "" {
			t.Errorf("%s: %s", x.name, d)
		}
	}
}

func TestLeaseErrors(t *testing.T) {
	var fail error
	k := &fakeKeeper{
		grant:  func(int64, int64) (lease.Granted, error) { return lease.Granted{}, fail },
		revoke: func(int64) (int64, error) { return 0, fail },
		info:   func(int64, bool) (lease.Info, bool, error) { return lease.Info{}, false, fail },
		leases: func() ([]int64, error) { return nil, fail },
	}
	c := serveLease(t, k)
	ctx := t.Context()
	for _, x := range []struct{ in, want error }{
		{lease.ErrTTLTooLarge, rpctypes.ErrGRPCLeaseTTLTooLarge},
		{mvcc.ErrLeaseExists, rpctypes.ErrGRPCLeaseExist},
		{fmt.Errorf("wrapped: %w", mvcc.ErrLeaseNotFound), rpctypes.ErrGRPCLeaseNotFound},
		{mvcc.ErrNoSpace, rpctypes.ErrGRPCNoSpace},
		{lease.ErrStopped, rpctypes.ErrGRPCStopped},
		{lease.ErrNotOwner, rpctypes.ErrGRPCLeaderChanged},
	} {
		fail = x.in
		_, e1 := c.LeaseGrant(ctx, &pb.LeaseGrantRequest{})
		_, e2 := c.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{})
		_, e3 := c.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{})
		_, e4 := c.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
		for i, err := range []error{e1, e2, e3, e4} {
			if status.Code(err) != status.Code(x.want) ||
				status.Convert(err).Message() != status.Convert(x.want).Message() {
				t.Errorf("call %d, %v: got %v, want %v", i, x.in, err, x.want)
			}
		}
	}
}

// keepAlive opens a stream with functions to send an id and to expect an answer.
func keepAlive(t *testing.T, ctx context.Context,
	c pb.LeaseClient,
) (stream pb.Lease_LeaseKeepAliveClient, send func(id int64), expect func(rev, id, ttl int64)) {
	t.Helper()
	stream, err := c.LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream, func(id int64) {
			t.Helper()
			if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
				t.Fatal(err)
			}
		}, func(rev, id, ttl int64) {
			t.Helper()
			got, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			want := &pb.LeaseKeepAliveResponse{Header: testHeader.At(rev), ID: id, TTL: ttl}
			if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
				t.Fatal(d)
			}
		}
}

func TestKeepAlive(t *testing.T) {
	k := &fakeKeeper{}
	stream, send, expect := keepAlive(t, t.Context(), serveLease(t, k))
	for _, id := range []int64{5, -3, 2000, 6} {
		send(id)
		k.rev.Add(1)
	}
	for i, id := range []int64{5, -3, 2000, 6} {
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		want, _ := k.TryRenew(id)
		if got.ID != id || got.TTL != want || got.Header.Revision < 7 || got.Header.Revision > 11 {
			t.Fatalf("answer %d: %v", i, got)
		}
	}
	send(7)
	expect(11, 7, 7)
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last: %v", err)
	}
}

// TestKeepAliveWaits: a renewal that waits holds up no other, carries the revision of its arrival, and is answered also
// after the client has sent its last.
func TestKeepAliveWaits(t *testing.T) {
	end := make(chan error)
	k := &fakeKeeper{expired: map[int64]chan error{1: end}}
	stream, send, expect := keepAlive(t, t.Context(), serveLease(t, k))
	send(5)
	expect(7, 5, 5)
	send(1)
	send(6)
	expect(7, 6, 6)
	k.rev.Store(8)
	send(7)
	expect(8, 7, 7)
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	end <- nil
	expect(7, 1, 0)
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last: %v", err)
	}
}

// TestKeepAliveWaitFails: when a waiting renewal fails, the stream ends at once with its error.
func TestKeepAliveWaitFails(t *testing.T) {
	end := make(chan error)
	k := &fakeKeeper{expired: map[int64]chan error{1: end, 2: make(chan error)}}
	stream, send, _ := keepAlive(t, t.Context(), serveLease(t, k))
	send(2)
	send(1)
	end <- lease.ErrNotOwner
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Fatalf("%v", err)
	}
}

// TestKeepAlivePassedOn: a client whose stream another pod passes on is not told of a lease that has got another keeper
// as if the lease had ended. Its stream ends, as it does where the client has asked the keeper itself.
func TestKeepAlivePassedOn(t *testing.T) {
	end := make(chan error)
	k := &fakeKeeper{expired: map[int64]chan error{1: end}}
	c := serveLease(t, k)
	stream, send, _ := keepAlive(t, metadata.AppendToOutgoingContext(t.Context(), lease.ForwardedKey, "1"), c)
	send(1)
	end <- lease.ErrNotOwner
	if got, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Fatalf("%v, %v", got, err)
	}
}

// TestKeepAliveWaitersBounded: a client that goes on asking for a lease that has expired is not read further after a
// while, and leaves nothing behind when it goes.
func TestKeepAliveWaitersBounded(t *testing.T) {
	k := &fakeKeeper{expired: map[int64]chan error{1: make(chan error)}}
	c := serveLease(t, k)
	ctx, cancel := context.WithCancel(t.Context())
	stream, send, _ := keepAlive(t, ctx, c)
	for range 2 * renewalsWaitingMax {
		send(1)
	}
	deadline := time.Now().Add(2 * time.Minute)
	for k.waiters() != renewalsWaitingMax {
		if time.Now().After(deadline) {
			t.Fatalf("%d waiters", k.waiters())
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Fatalf("%v", err)
	}
	for k.waiters() != 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d waiters left", k.waiters())
		}
		time.Sleep(time.Millisecond)
	}
}

// TestKeepAliveForwardedGoesOn: a stream that carries the renewals of another pod's clients is read on however many of
// them wait; those that are too many are to be asked for again, and those of leases that have got another keeper.
func TestKeepAliveForwardedGoesOn(t *testing.T) {
	end := make(chan error)
	k := &fakeKeeper{expired: map[int64]chan error{1: end}, sharded: true}
	c := serveLease(t, k)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, send, expect := keepAlive(t, metadata.AppendToOutgoingContext(ctx, lease.ForwardedKey, "1"), c)
	send(1)
	end <- lease.ErrNotOwner
	expect(7, 1, lease.NotOwnedTTL)
	for range renewalsWaitingMax + 1 {
		send(1)
	}
	expect(7, 1, lease.NotOwnedTTL)
	send(2)
	expect(7, 2, 2)
	end <- nil
	expect(7, 1, 0)
}

func TestKeepAliveHeadFails(t *testing.T) {
	k := &fakeKeeper{}
	stopped := lease.ErrStopped
	k.headErr.Store(&stopped)
	stream, send, _ := keepAlive(t, t.Context(), serveLease(t, k))
	send(1)
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Fatalf("%v", err)
	}
}
