package load

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// LeaseOptions say how leases are kept alive.
type LeaseOptions struct {
	TTL int64 // seconds
	// Stream keeps one LeaseKeepAlive stream per client, as long-lived clients do. Without it each request opens a
	// stream of its own (KeepAliveOnce), as etcd's benchmark does.
	Stream bool
}

// leaseState is the state of a worker.
type leaseState struct {
	id     clientv3.LeaseID
	stream etcdserverpb.Lease_LeaseKeepAliveClient // opened with the first request
}

var errLeaseGone = errors.New("the lease is gone")

// LeaseKeepAlive grants one lease per client and keeps it alive. The leases are left to expire.
func LeaseKeepAlive(ctx context.Context, o Options, lo LeaseOptions) (Result, error) {
	request := keepAliveOnce
	if lo.Stream {
		request = keepAliveStream
	}
	return drive(ctx, o, workload{
		name: "lease-keepalive", unit: unitRequests, kinds: []string{"keepalive"},
		setup: func(ctx context.Context, w *worker) error {
			resp, err := w.client.Grant(ctx, lo.TTL)
			if err != nil {
				return fmt.Errorf("grant: %w", err)
			}
			w.state = &leaseState{id: resp.ID}
			return nil
		},
		request: func(ctx context.Context, w *worker, _ int64) (done, error) {
			return done{units: 1}, request(ctx, w.client, w.state.(*leaseState))
		},
	})
}

func keepAliveOnce(ctx context.Context, c *clientv3.Client, st *leaseState) error {
	_, err := c.KeepAliveOnce(ctx, st.id)
	return err
}

// keepAliveStream needs the same ctx in each call, because the stream lives in the ctx of the first.
func keepAliveStream(ctx context.Context, c *clientv3.Client, st *leaseState) (err error) {
	if st.stream == nil {
		st.stream, err = etcdserverpb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx)
		if err != nil {
			return err
		}
	}
	if err := st.stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(st.id)}); err != nil {
		return err
	}
	resp, err := st.stream.Recv()
	if err == nil && resp.TTL <= 0 {
		err = errLeaseGone
	}
	return err
}
