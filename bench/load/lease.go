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
	// Stream keeps one LeaseKeepAlive stream per client, as long-lived clients do. Without it each request opens a stream of its
	// own (KeepAliveOnce), as etcd's benchmark does.
	Stream bool
}

// leaseState is the state of a worker.
type leaseState struct {
	id     clientv3.LeaseID
	stream etcdserverpb.Lease_LeaseKeepAliveClient
}

var errLeaseGone = errors.New("the lease is gone")

// LeaseKeepAlive grants one lease per client and keeps it alive. The leases are left to expire.
func LeaseKeepAlive(ctx context.Context, o Options, lo LeaseOptions) (Result, error) {
	return drive(ctx, o, workload{
		name: "lease-keepalive", unit: unitRequests, kinds: []string{"keepalive"},
		setup: func(setupCtx context.Context, w *worker) error {
			resp, err := w.client.Grant(setupCtx, lo.TTL)
			if err != nil {
				return fmt.Errorf("grant: %w", err)
			}
			st := &leaseState{id: resp.ID}
			w.state = st
			if lo.Stream {
				st.stream, err = etcdserverpb.NewLeaseClient(w.client.ActiveConnection()).LeaseKeepAlive(ctx)
			}
			return err
		},
		request: func(ctx context.Context, w *worker, _ int64) (done, error) {
			st := w.state.(*leaseState)
			if st.stream == nil {
				_, err := w.client.KeepAliveOnce(ctx, st.id)
				return done{units: 1}, err
			}
			if err := st.stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(st.id)}); err != nil {
				return done{}, err
			}
			resp, err := st.stream.Recv()
			if err == nil && resp.TTL <= 0 {
				err = errLeaseGone
			}
			return done{units: 1}, err
		},
	})
}
