package etcdapi

import (
	"context"
	"errors"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// renewalsWaitingMax is how many renewals of one stream may wait at the same time for the end of their lease. If a
// client's stream has more, it is not read further until one of them is answered. A stream of another pod carries the
// renewals of many clients, which must not wait for those: the other pod is told to ask again.
const renewalsWaitingMax = 128

// LeaseKeepAlive implements pb.LeaseServer.
//
// Renewals are answered in the order in which they come, by the goroutine that reads them. A renewal has to wait if its
// lease has expired and is about to be revoked; it is answered later. clientv3 has one stream for all its leases, and
// the others must not expire because of that one.
//
// A stream ends with Unavailable when the server drains. So its handler cannot be the goroutine that reads: only the
// return of the handler ends a read with a status that the server chooses.
func (s *leaseService) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	k := &keepAliveStream{service: s, stream: stream}
	done := make(chan error, 1)
	go func() { done <- k.run() }()
	select {
	case err := <-done:
		return err
	case <-s.draining.Done():
		return k.end()
	case <-stream.Context().Done(): // the client's end, or what others have of the stream
		_ = k.end()
		return status.FromContextError(stream.Context().Err()).Err()
	}
}

// run answers requests until the stream ends.
func (k *keepAliveStream) run() error {
	err := k.serve(k.renew)
	if !errors.Is(err, errRenewalWaits) {
		return err
	}
	return k.serveWithWaiters()
}

// end returns when no request is being answered and none will be. After that the parts behind the service may be
// closed.
func (k *keepAliveStream) end() error {
	k.turn.Lock()
	defer k.turn.Unlock()
	k.ended = true
	return rpctypes.ErrGRPCStopped
}

// errRenewalWaits ends the first phase of a stream.
var errRenewalWaits = errors.New("renewal waits")

// keepAliveStream is one keep-alive stream. Most streams never have a renewal that waits. They need one reader, and no
// lock except the uncontended turn. The first renewal that waits begins the second phase, with a reader and waiters
// beside the handler's goroutine.
type keepAliveStream struct {
	service *leaseService
	stream  grpc.ServerStream

	turn  sync.Mutex // held while a request is being answered
	ended bool       // guarded by turn

	// The renewal that begins the second phase.
	first renewal

	// Second phase.
	ctx     context.Context // the stream's, cancelled when the handler returns
	slots   chan struct{}   // one per waiter
	failed  chan error      // the first error of a waiter
	waiters sync.WaitGroup
	sending sync.Mutex
}

// renewal is one request, with the revision of its answer.
type renewal struct {
	id, rev int64
}

// serve answers requests until the client has sent its last one (then it returns nil) or answer fails.
func (k *keepAliveStream) serve(answer func(renewal) error) error {
	var req keepAliveRequest
	for {
		if err := k.stream.RecvMsg(&req); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := k.answer(req.id, answer); err != nil {
			return err
		}
	}
}

func (k *keepAliveStream) answer(id int64, answer func(renewal) error) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	if k.ended {
		return rpctypes.ErrGRPCStopped
	}
	// The header comes before the renewal. Otherwise a lease could be revoked at revision 3 and its keep-alive could be
	// seen to succeed at 4 (etcd: v3rpc/lease.go). The header need not prove more. etcd takes the revision that the
	// member has applied, without asking anybody, so a keep-alive is answered from memory.
	rev, err := k.service.head.RecentHead(k.stream.Context())
	if err != nil {
		return leaseErr(err)
	}
	if c := k.service.renews; c != nil {
		if err := c.mayRenew(k.stream.Context(), id); err != nil {
			return leaseErr(err)
		}
	}
	return answer(renewal{id, rev})
}

// renew answers in the first phase.
func (k *keepAliveStream) renew(r renewal) error {
	ttl, ok := k.service.keeper.TryRenew(r.id)
	if !ok {
		k.first = r
		return errRenewalWaits
	}
	return k.send(r, ttl)
}

func (k *keepAliveStream) send(r renewal, ttl int64) error {
	return k.stream.SendMsg(k.service.encoder.response(r.rev, r.id, ttl))
}

// serveWithWaiters is the second phase. It returns when the client has sent its last request and all are answered, or
// at the first error. The reader then ends with the stream.
func (k *keepAliveStream) serveWithWaiters() error {
	ctx, cancel := context.WithCancel(k.stream.Context())
	defer cancel()
	k.ctx = ctx
	k.slots = make(chan struct{}, renewalsWaitingMax)
	k.failed = make(chan error, 1)
	done := make(chan error, 1)
	go func() {
		err := k.renewOrWait(k.first)
		if err == nil {
			err = k.serve(k.renewOrWait)
		}
		if err == nil {
			k.waiters.Wait()
		}
		done <- err
	}()
	select {
	case err := <-k.failed:
		return err
	case err := <-done:
		return err
	}
}

// renewOrWait answers in the second phase.
func (k *keepAliveStream) renewOrWait(r renewal) error {
	if ttl, ok := k.service.keeper.TryRenew(r.id); ok {
		return k.sendBeside(r, ttl)
	}
	select {
	case k.slots <- struct{}{}:
	default:
		if k.shared() {
			return k.sendBeside(r, lease.NotOwnedTTL)
		}
		select {
		case k.slots <- struct{}{}:
		case <-k.ctx.Done():
			return k.ctx.Err()
		}
	}
	k.waiters.Go(func() {
		if err := k.wait(r); err != nil {
			select {
			case k.failed <- err:
			default:
			}
		}
		<-k.slots
	})
	return nil
}

// shared reports whether the stream carries the renewals of many clients of another pod, which knows what
// lease.NotOwnedTTL says. The stream of one client that another pod passes on is forwarded as well, but what is sent
// there the client gets as it is, and takes for the end of its lease.
func (k *keepAliveStream) shared() bool { return k.service.sharded && lease.Forwarded(k.ctx) }

func (k *keepAliveStream) wait(r renewal) error {
	ttl, err := k.service.keeper.Renew(k.ctx, r.id)
	switch {
	case errors.Is(err, lease.ErrNotOwner) && k.shared():
		ttl = lease.NotOwnedTTL // do not disturb the other renewals on the stream
	case errors.Is(err, mvcc.ErrCorrupt):
		ttl = 0 // it has expired, but its keys cannot be deleted; the stream goes on for the others
	case err != nil:
		return leaseErr(err)
	}
	return k.sendBeside(r, ttl)
}

// sendBeside is send for the case that others send too.
func (k *keepAliveStream) sendBeside(r renewal, ttl int64) error {
	k.sending.Lock()
	defer k.sending.Unlock()
	return k.send(r, ttl)
}
