package sidebyside

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// An alarm acts on the pods that did not take the request within a second (T21). What follows waits for that, pod by
// pod, with requests that leave nothing behind.

const (
	// noLease is a lease that nobody grants.
	noLease int64 = 0x7d_0000_0000
	// probeLeases is how many ids are tried, to meet every owner of leases.
	probeLeases = 32
	// noSpace is how etcd refuses what grows.
	noSpace = "etcdserver: mvcc: database space exceeded"
	// leaseExists is how etcd refuses to grant a lease again.
	leaseExists = "etcdserver: lease already exists"
)

// obeyer is a server of several parts that obey an alarm some time after it was answered.
type obeyer interface {
	obeys(ctx context.Context, noSpace bool) error
}

// obeys waits until all pods refuse growth, or until all allow it.
func (s *podsServer) obeys(ctx context.Context, refused bool) error {
	for _, k := range pods.Kinds {
		for i := range podsPerKind {
			conn, err := dialServer(s.deployment.Addr(k, i))
			if err != nil {
				return err
			}
			err = poll(ctx, func() (bool, error) { return growth(ctx, conn, k, refused) })
			conn.Close()
			if err != nil {
				return fmt.Errorf("%s pod %d does not obey an alarm: %w", k, i, err)
			}
		}
	}
	return nil
}

// growth tells whether all that a pod may refuse is refused, or nothing is.
func growth(ctx context.Context, conn *grpc.ClientConn, k config.Kind, refused bool) (bool, error) {
	if k != config.LeaseKeeper {
		_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("a"), Lease: noLease})
		return (status.Convert(err).Message() == noSpace) == refused, nil
	}
	n, err := grantsRefused(ctx, conn)
	return err == nil && (n == probeLeases && refused || n == 0 && !refused), err
}

// grantsRefused tells how many of probeLeases grants are refused for want of space. The leases are revoked again.
func grantsRefused(ctx context.Context, conn *grpc.ClientConn) (int, error) {
	var wg sync.WaitGroup
	var refused atomic.Int64
	var errs [probeLeases]error
	for i := range errs {
		wg.Go(func() {
			var was bool
			if was, errs[i] = grantRefused(ctx, conn, noLease+int64(i)); was {
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return int(refused.Load()), nil
}

func grantRefused(ctx context.Context, conn *grpc.ClientConn, id int64) (bool, error) {
	leases := pb.NewLeaseClient(conn)
	_, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttlMin})
	switch {
	case status.Convert(err).Message() == noSpace:
		return true, nil
	case err != nil && status.Convert(err).Message() != leaseExists: // of a probe that was not answered
		return false, err
	}
	_, err = leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
	return false, err
}

// poll asks again until the answer is yes, an error comes, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(probePause)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
