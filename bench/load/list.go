package load

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const unitKeys = "keys"

// List reads the whole key space in pages of limit keys, as the Kubernetes API server does: the first page is
// linearizable, the others are pinned at its revision, and each page says how many keys are left in all (exact
// counts). A page that repeats, misses or miscounts a key is an error. The key space must be filled; one request is
// one whole list.
func List(ctx context.Context, o Options, limit int64) (Result, error) {
	if limit < 1 {
		return Result{}, errors.New("limit must be positive")
	}
	if _, err := newKeys(o.Prefix, o.KeySize, o.KeySpace); err != nil {
		return Result{}, err
	}
	end := clientv3.GetPrefixRangeEnd(o.Prefix)
	return drive(ctx, o, workload{
		name: "list", unit: unitKeys, kinds: []string{"list"},
		request: func(ctx context.Context, w *worker, _ int64) (done, error) {
			n, err := list(ctx, w.client, o.Prefix, end, limit, o.KeySpace)
			return done{units: n}, err
		},
	})
}

// list reads [from, end) in pages and returns how many keys it holds, which must be want.
func list(ctx context.Context, kv clientv3.KV, from, end string, limit, want int64) (int64, error) {
	var seen, rev int64
	last := ""
	for {
		ops := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(limit)}
		if rev != 0 {
			ops = append(ops, clientv3.WithRev(rev))
		}
		resp, err := kv.Get(ctx, from, ops...)
		if err != nil {
			return 0, err
		}
		if rev == 0 {
			rev = resp.Header.Revision
		}
		if resp.Count != want-seen {
			return 0, fmt.Errorf("page after %q: count %d, want %d", last, resp.Count, want-seen)
		}
		for _, kv := range resp.Kvs {
			if string(kv.Key) <= last {
				return 0, fmt.Errorf("page after %q: key %q is out of order", last, kv.Key)
			}
			last = string(kv.Key)
		}
		seen += int64(len(resp.Kvs))
		if more := seen < want; resp.More != more || more && int64(len(resp.Kvs)) != limit {
			return 0, fmt.Errorf("page up to %q: %d keys, more = %v, after %d of %d keys", last, len(resp.Kvs),
				resp.More, seen, want)
		}
		if !resp.More {
			return seen, nil
		}
		from = last + "\x00"
	}
}
