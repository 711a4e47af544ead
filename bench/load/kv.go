package load

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	kindPut   = "put"
	kindRange = "range"
	kindTxn   = "txn"
)

// Put writes keys of the key space.
func Put(ctx context.Context, o Options) (Result, error) {
	ks, err := newKeys(o.Prefix, o.KeySize, o.KeySpace)
	if err != nil {
		return Result{}, err
	}
	vs := NewValues(o.ValSize, o.Seed)
	return drive(ctx, o, workload{
		name: "put", unit: unitRequests, kinds: []string{kindPut},
		request: func(ctx context.Context, w *worker, n int64) (done, error) {
			_, err := w.client.Put(o.in(ctx, n), ks.at(o.pick(w, n)), vs.Next(w.rand))
			return done{units: 1, writes: 1}, err
		},
	})
}

// pick returns the index of the key of request n.
func (o *Options) pick(w *worker, n int64) int64 {
	if o.Sequential {
		return n % o.KeySpace
	}
	return w.rand.Int64N(o.KeySpace)
}

// Fill writes each key of the key space once, in transactions of perTxn puts, and counts them at the end if o.Verify.
// Total and Duration are ignored.
func Fill(ctx context.Context, o Options, perTxn int) (Result, error) {
	if perTxn < 1 {
		return Result{}, errors.New("txn-ops must be positive")
	}
	ks, err := newKeys(o.Prefix, o.KeySize, o.KeySpace)
	if err != nil {
		return Result{}, err
	}
	o.Duration, o.Warmup, o.Rate = 0, 0, 0
	o.Total = (o.KeySpace + int64(perTxn) - 1) / int64(perTxn)
	vs := NewValues(o.ValSize, o.Seed)
	res, err := drive(ctx, o, workload{
		name: "fill", unit: "keys", kinds: []string{kindTxn},
		request: func(ctx context.Context, w *worker, n int64) (done, error) {
			from := n * int64(perTxn)
			to := min(from+int64(perTxn), o.KeySpace)
			if to-from == 1 {
				_, err := w.client.Put(ctx, ks.at(from), vs.Next(w.rand))
				return done{units: 1, writes: 1}, err
			}
			_, err := w.client.Txn(ctx).Then(puts(from, to, ks, vs, w)...).Commit()
			return done{units: to - from, writes: 1}, err
		},
	})
	if err != nil || !o.Verify {
		return res, err
	}
	return res, checkCount(ctx, o)
}

// puts makes the put operations of keys [from, to).
func puts(from, to int64, ks keys, vs Values, w *worker) []clientv3.Op {
	ops := make([]clientv3.Op, 0, to-from)
	for i := from; i < to; i++ {
		ops = append(ops, clientv3.OpPut(ks.at(i), vs.Next(w.rand)))
	}
	return ops
}

// checkCount fails if the server does not hold exactly the keys of the key space under the prefix.
func checkCount(ctx context.Context, o Options) error {
	o.Conns = 1
	conns, err := dial(o)
	if err != nil {
		return err
	}
	defer closeAll(conns)
	resp, err := conns[0].Get(ctx, o.Prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	if resp.Count != o.KeySpace {
		return fmt.Errorf("the server holds %d keys under %q, not %d", resp.Count, o.Prefix, o.KeySpace)
	}
	return nil
}

// RangeOptions say what a range reads. An empty Key reads one random key of the key space, which must have been filled.
type RangeOptions struct {
	Key, End     string
	WholePrefix  bool
	Limit        int64
	Serializable bool
	CountOnly    bool
	KeysOnly     bool
}

func (ro *RangeOptions) ops() []clientv3.OpOption {
	var ops []clientv3.OpOption
	if ro.Limit > 0 {
		ops = append(ops, clientv3.WithLimit(ro.Limit))
	}
	if ro.Serializable {
		ops = append(ops, clientv3.WithSerializable())
	}
	if ro.CountOnly {
		ops = append(ops, clientv3.WithCountOnly())
	}
	if ro.KeysOnly {
		ops = append(ops, clientv3.WithKeysOnly())
	}
	switch {
	case ro.WholePrefix:
		ops = append(ops, clientv3.WithPrefix())
	case ro.End != "":
		ops = append(ops, clientv3.WithRange(ro.End))
	}
	return ops
}

var errMissing = errors.New("a key of the key space is missing: run fill first")

// Range reads. With RangeOptions.Key it reads that range each time, else single keys of the key space, each of which
// must be there.
func Range(ctx context.Context, o Options, ro RangeOptions) (Result, error) {
	ks, err := newKeys(o.Prefix, o.KeySize, o.KeySpace)
	if err != nil {
		return Result{}, err
	}
	ops := ro.ops()
	random := ro.Key == "" && !ro.WholePrefix
	return drive(ctx, o, workload{
		name: "range", unit: unitRequests, kinds: []string{kindRange},
		request: func(ctx context.Context, w *worker, n int64) (done, error) {
			key := ro.Key
			if random {
				key = ks.at(o.pick(w, n))
			}
			resp, err := w.client.Get(ctx, key, ops...)
			if err == nil && random && resp.Count != 1 {
				err = errMissing
			}
			return done{units: 1}, err
		},
	})
}

// Mixed sends ratio single-key ranges for each put, over keys of a filled key space.
func Mixed(ctx context.Context, o Options, ratio float64, serializable bool) (Result, error) {
	ks, err := newKeys(o.Prefix, o.KeySize, o.KeySpace)
	if err != nil {
		return Result{}, err
	}
	if ratio < 0 {
		return Result{}, errors.New("rw-ratio must not be negative")
	}
	vs := NewValues(o.ValSize, o.Seed)
	ops := (&RangeOptions{Serializable: serializable}).ops()
	return drive(ctx, o, workload{
		name: "mixed", unit: unitRequests, kinds: []string{kindRange, kindPut},
		request: func(ctx context.Context, w *worker, n int64) (done, error) {
			key := ks.at(o.pick(w, n))
			if w.rand.Float64()*(ratio+1) >= ratio {
				_, err := w.client.Put(ctx, key, vs.Next(w.rand))
				return done{kind: 1, units: 1, writes: 1}, err
			}
			resp, err := w.client.Get(ctx, key, ops...)
			if err == nil && resp.Count != 1 {
				err = errMissing
			}
			return done{units: 1}, err
		},
	})
}
