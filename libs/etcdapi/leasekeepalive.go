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

// renewalsWaitingMax is how many renewals of one stream may wait for the end of their lease at a time. With more, a
// client's stream is not read further until one of them is answered; that of another pod carries the renewals of many
// clients, which must not wait for those that do: it is told to ask again.
const renewalsWaitingMax = 128

// LeaseKeepAlive implements pb.LeaseServer.
//
// Renewals are answered in the order in which they come, by the goroutine that reads them. One that has to wait,
// since its lease has expired and is about to be revoked, is answered when it can be: clientv3 has one stream for all
// its leases, and those that are good must not expire because of one that is not.
//
// A stream ends with Unavailable when the server drains. Its handler cannot be the goroutine that reads from it:
// nothing but the return of a handler ends the wait for a client without a status that gRPC chooses.
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

// end returns when no request is being answered, and none will be: what is behind the service may be closed then.
func (k *keepAliveStream) end() error {
	k.turn.Lock()
	defer k.turn.Unlock()
	k.ended = true
	return rpctypes.ErrGRPCStopped
}

// errRenewalWaits ends the first phase of a stream.
var errRenewalWaits = errors.New("renewal waits")

// keepAliveStream is one keep-alive stream. Most streams never see a renewal that waits; they need one reader and no
// lock but the uncontended turn. The first that does begins the second phase, with a reader and waiters beside the
// handler's goroutine.
type keepAliveStream struct {
	service *leaseService
	stream  grpc.ServerStream

	turn  sync.Mutex // held while a request is being answered
	ended bool       // guarded by turn

	// The renewal with which the second phase begins.
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

// serve answers requests until the client has sent its last (then it returns nil) or answer fails.
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
	// The header comes before the renewal: else a lease could be revoked at revision 3 and its keep-alive be seen to
	// have succeeded at 4 (etcd: v3rpc/lease.go). That is all that is asked of it: etcd takes the one that the member
	// has applied, asking nobody, and so a keep-alive is answered from memory.
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

// renew is the first phase's answer.
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

// serveWithWaiters is the second phase. It returns when the client has sent its last and all is answered, or at the
// first error; the reader then ends with the stream.
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

// renewOrWait is the second phase's answer.
func (k *keepAliveStream) renewOrWait(r renewal) error {
	if ttl, ok := k.service.keeper.TryRenew(r.id); ok {
		return k.sendBeside(r, ttl)
	}
	select {
	case k.slots <- struct{}{}:
	default:
		if lease.Forwarded(k.ctx) {
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

func (k *keepAliveStream) wait(r renewal) error {
	ttl, err := k.service.keeper.Renew(k.ctx, r.id)
	switch {
	case errors.Is(err, lease.ErrNotOwner) && lease.Forwarded(k.ctx):
		ttl = lease.NotOwnedTTL // the other renewals on the stream are none of this one's business
	case errors.Is(err, mvcc.ErrCorrupt):
		ttl = 0 // it has expired, although its keys cannot be deleted; the stream goes on for the others
	case err != nil:
		return leaseErr(err)
	}
	return k.sendBeside(r, ttl)
}

// sendBeside is send where others send too.
func (k *keepAliveStream) sendBeside(r renewal, ttl int64) error {
	k.sending.Lock()
	defer k.sending.Unlock()
	return k.send(r, ttl)
}
