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

// A pod that did not take the alarm request itself obeys the alarm within a second (T21). The functions below wait for
// that, pod by pod, with requests that leave nothing behind.

const (
	// noLease is a lease that nobody grants.
	noLease int64 = 0x7d_0000_0000
	// probeLeases is how many ids are tried, so that every owner of leases gets some.
	probeLeases = 32
	// noSpace is the text with which etcd refuses writes that need space.
	noSpace = "etcdserver: mvcc: database space exceeded"
	// leaseExists is the text with which etcd refuses to grant a lease again.
	leaseExists = "etcdserver: lease already exists"
)

// obeyer is a server of several parts, which obey an alarm some time after the answer to the request.
type obeyer interface {
	obeys(ctx context.Context, noSpace bool) error
}

// obeys waits until all pods refuse writes that need space, or until all allow them.
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

// growth reports whether a pod refuses everything that it has to refuse under the alarm, or nothing, as refused says.
func growth(ctx context.Context, conn *grpc.ClientConn, k config.Kind, refused bool) (bool, error) {
	if k != config.LeaseKeeper {
		_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("a"), Lease: noLease})
		return (status.Convert(err).Message() == noSpace) == refused, nil
	}
	n, err := grantsRefused(ctx, conn)
	return err == nil && (n == probeLeases && refused || n == 0 && !refused), err
}

// grantsRefused returns how many of probeLeases grants are refused for lack of space. It revokes the leases again.
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
	case err != nil && status.Convert(err).Message() != leaseExists: // a probe without an answer may have granted it
		return false, err
	}
	_, err = leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
	return false, err
}

// poll calls done until it returns true or an error, or until ctx ends.
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
