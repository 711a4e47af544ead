package load

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TxnPut sends transactions of perTxn puts on distinct keys.
func TxnPut(ctx context.Context, o Options, perTxn int) (Result, error) {
	ks, err := newKeys(o.Prefix, o.KeySize, o.KeySpace)
	if err != nil {
		return Result{}, err
	}
	if perTxn < 1 || int64(perTxn) > o.KeySpace {
		return Result{}, errors.New("txn-ops must be positive and at most key-space-size, since a transaction may " +
			"put a key only once")
	}
	vs := NewValues(o.ValSize, o.Seed)
	return drive(ctx, o, workload{
		name: "txn-put", unit: unitRequests, kinds: []string{kindTxn},
		request: func(ctx context.Context, w *worker, n int64) (done, error) {
			from := o.pick(w, n*int64(perTxn))
			_, err := w.client.Txn(ctx).Then(puts(from, from+int64(perTxn), ks, vs, w)...).Commit()
			return done{units: 1, writes: 1}, err
		},
	})
}

// TxnMixedOptions say what TxnMixed reads and how often.
type TxnMixedOptions struct {
	RangeOptions
	Ratio float64 // reading transactions for each writing one
}

// TxnMixed sends transactions of one range and transactions of one put.
func TxnMixed(ctx context.Context, o Options, to TxnMixedOptions) (Result, error) {
	ks, err := newKeys(o.Prefix, o.KeySize, o.KeySpace)
	if err != nil {
		return Result{}, err
	}
	if to.Ratio < 0 {
		return Result{}, errors.New("rw-ratio must not be negative")
	}
	if to.Key == "" {
		to.Key, to.WholePrefix = o.Prefix, true
	}
	vs := NewValues(o.ValSize, o.Seed)
	read := clientv3.OpGet(to.Key, to.ops()...)
	return drive(ctx, o, workload{
		name: "txn-mixed", unit: unitRequests, kinds: []string{"txn-range", "txn-put"},
		request: func(ctx context.Context, w *worker, n int64) (done, error) {
			if w.rand.Float64()*(to.Ratio+1) >= to.Ratio {
				_, err := w.client.Txn(ctx).Then(clientv3.OpPut(ks.at(o.pick(w, n)), vs.Next(w.rand))).Commit()
				return done{kind: 1, units: 1, writes: 1}, err
			}
			_, err := w.client.Txn(ctx).Then(read).Commit()
			return done{units: 1}, err
		},
	})
}

// Create sends what the Kubernetes API server sends for a create: put if the key has never been written (mod_revision
// = 0). Keys are always fresh ones: 0, 1, 2, …; a run that wraps around the key space sees false compares.
func Create(ctx context.Context, o Options) (Result, error) {
	ks, err := newKeys(o.Prefix, o.KeySize, o.KeySpace)
	if err != nil {
		return Result{}, err
	}
	vs := NewValues(o.ValSize, o.Seed)
	return drive(ctx, o, workload{
		name: "create", unit: unitRequests, kinds: []string{"create"},
		request: func(ctx context.Context, w *worker, n int64) (done, error) {
			key := ks.at(n)
			resp, err := w.client.Txn(ctx).
				If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
				Then(clientv3.OpPut(key, vs.Next(w.rand))).
				Commit()
			return compared(resp, err)
		},
	})
}

// compared sums up a compare-and-put.
func compared(resp *clientv3.TxnResponse, err error) (done, error) {
	switch {
	case err != nil:
		return done{}, err
	case resp.Succeeded:
		return done{units: 1, writes: 1}, nil
	}
	return done{conflicts: 1}, nil
}

// Update sends what the Kubernetes API server sends for an update: put if the key is still at the revision last seen,
// else get it. Each client updates its own keys of the filled key space, so that no compare fails.
func Update(ctx context.Context, o Options) (Result, error) {
	ks, err := newKeys(o.Prefix, o.KeySize, o.KeySpace)
	if err != nil {
		return Result{}, err
	}
	if o.KeySpace < int64(o.Clients) {
		return Result{},
			errors.New("key-space-size must be at least the number of clients: each client updates its own keys")
	}
	vs := NewValues(o.ValSize, o.Seed)
	revs := make([]int64, o.KeySpace) // mod revisions; element i belongs to client i mod Clients
	clients := int64(o.Clients)
	return drive(ctx, o, workload{
		name: "update", unit: unitRequests, kinds: []string{"update"},
		prepare: func(ctx context.Context, conns []*clientv3.Client) error {
			return readRevisions(ctx, conns[0], o.Prefix, ks, revs)
		},
		request: func(ctx context.Context, w *worker, _ int64) (done, error) {
			id := int64(w.id)
			own := (o.KeySpace - id + clients - 1) / clients // number of keys of this client
			i := w.rand.Int64N(own)*clients + id
			key := ks.at(i)
			resp, err := w.client.Txn(ctx).
				If(clientv3.Compare(clientv3.ModRevision(key), "=", revs[i])).
				Then(clientv3.OpPut(key, vs.Next(w.rand))).
				Else(clientv3.OpGet(key)).
				Commit()
			d, err := compared(resp, err)
			if err == nil {
				revs[i] = seenRevision(resp)
			}
			return d, err
		},
	})
}

// seenRevision returns the mod revision of the key after a compare-and-put.
func seenRevision(resp *clientv3.TxnResponse) int64 {
	if resp.Succeeded {
		return resp.Header.Revision
	}
	if kvs := resp.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		return kvs[0].ModRevision
	}
	return 0
}

// readRevisions reads the mod revisions of all keys of the key space, in pages.
func readRevisions(ctx context.Context, c *clientv3.Client, prefix string, ks keys, revs []int64) error {
	const page = 1000
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		resp, err := c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(page))
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			if i, ok := ks.index(kv.Key); ok {
				revs[i] = kv.ModRevision
			}
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}
