package load

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Count counts the whole key space, which must be filled. With limit 0 a request asks for the count alone, else for the
// first page of limit keys and the count. One request is one count. A wrong count is an error.
func Count(ctx context.Context, o Options, limit int64) (Result, error) {
	if _, err := newKeys(o.Prefix, o.KeySize, o.KeySpace); err != nil {
		return Result{}, err
	}
	opts := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithCountOnly()}
	want := int64(0)
	if limit > 0 {
		opts, want = []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(limit)}, min(limit, o.KeySpace)
	}
	return drive(ctx, o, workload{
		name: "count", unit: unitKeys, kinds: []string{"count"},
		request: func(ctx context.Context, w *worker, _ int64) (done, error) {
			resp, err := w.client.Get(ctx, o.Prefix, opts...)
			if err != nil {
				return done{}, err
			}
			if resp.Count != o.KeySpace || int64(len(resp.Kvs)) != want {
				return done{}, fmt.Errorf("count %d and %d keys, want %d and %d", resp.Count, len(resp.Kvs), o.KeySpace,
					want)
			}
			return done{units: resp.Count}, nil
		},
	})
}
