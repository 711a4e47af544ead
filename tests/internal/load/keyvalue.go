package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	keyPrefix = "key"

	plainKeys   = 8 // keys in use at a time that never have a lease
	leasedKeys  = 4 // keys that have a lease now and then
	txnOps      = 4
	leaseTTL    = 7200 // seconds: longer than any run, since the model knows no expiry
	listMaxKeys = 5    // limit of the limited lists

	revisionsKept = 16
)

// keys is the pool of keys in use. A deleted key is mostly replaced by a fresh name. If the answer to a delete is lost,
// the log shows whether it happened only if it is the only delete of its key.
type keys struct {
	mu    sync.Mutex
	plain [plainKeys]string
	next  int
}

func newKeys() *keys {
	k := &keys{}
	for i := range k.plain {
		k.plain[i] = k.fresh()
	}
	return k
}

func (k *keys) fresh() string {
	k.next++
	return fmt.Sprintf("%s-%04d", keyPrefix, k.next)
}

// get returns a key that never has a lease. If remove is set, a new name mostly takes its place in the pool.
func (k *keys) get(rnd *rand.Rand, remove bool) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := rnd.IntN(len(k.plain))
	key := k.plain[i]
	if remove && rnd.IntN(10) != 0 {
		k.plain[i] = k.fresh()
	}
	return key
}

// any returns a key that may have a lease or never has one.
func (k *keys) any(rnd *rand.Rand) string {
	if rnd.IntN(plainKeys+leasedKeys) < leasedKeys {
		return leased(rnd)
	}
	return k.get(rnd, false)
}

func leased(rnd *rand.Rand) string {
	return fmt.Sprintf("%s-lease-%d", keyPrefix, rnd.IntN(leasedKeys))
}

// keyValueClient is one client of the KeyValue profile.
type keyValueClient struct {
	*link
	rnd   *rand.Rand
	lease int64   // 0: none
	revs  []int64 // the newest header revisions seen, at most revisionsKept
}

func (r *Run) keyValueLoop(ctx context.Context, l *link, rnd *rand.Rand) {
	kc := &keyValueClient{link: l, rnd: rnd}
	ok := true
	for ctx.Err() == nil && r.lim.Wait(ctx) == nil {
		// When the run stops, the request under way goes on to its end. Otherwise every client would leave an
		// unknown outcome.
		opCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		rev, err := kc.next(ok)(opCtx)
		cancel()
		ok = kc.done(err)
		kc.saw(rev)
	}
}

type request func(context.Context) (rev int64, err error)

// next picks a request. After a failed request it picks a list.
func (k *keyValueClient) next(ok bool) request {
	if !ok {
		return k.list(0, 0, false)
	}
	n := k.rnd.IntN(100)
	for _, choice := range []struct {
		weight int
		pick   func() request
	}{
		{22, k.put},
		{2, k.putLarge},
		{14, func() request { return k.get(0) }},
		{8, func() request { return k.get(k.oldRevision()) }},
		{5, func() request { return k.list(0, 0, false) }},
		{3, func() request { return k.list(0, listMaxKeys, false) }},
		{3, func() request { return k.list(0, 0, true) }},
		{5, func() request { return k.list(k.oldRevision(), 0, false) }},
		{4, func() request { return k.stream(0) }},
		{3, func() request { return k.stream(k.oldRevision()) }},
		{5, k.delete},
		{11, k.txn},
		{8, k.compareAndSet},
		{5, k.putWithLease},
		{2, k.revoke},
	} {
		if n -= choice.weight; n < 0 {
			return choice.pick()
		}
	}
	panic("load: weights do not sum up to 100")
}

func (k *keyValueClient) saw(rev int64) {
	if rev == 0 {
		return
	}
	if len(k.revs) == revisionsKept {
		k.revs = append(k.revs[:0], k.revs[1:]...)
	}
	k.revs = append(k.revs, rev)
}

// oldRevision is a revision that was the newest one lately, or the number before or after it. A server that does not
// number densely may never have had such a number. It is 0 if no revision is known.
func (k *keyValueClient) oldRevision() int64 {
	if len(k.revs) == 0 {
		return 0
	}
	return max(1, k.revs[k.rnd.IntN(len(k.revs))]+between[int64](k.rnd, -1, 1))
}

func (k *keyValueClient) value() string { return strconv.Itoa(k.ids.NewRequestID()) }

func (k *keyValueClient) put() request { return k.putValue(k.value()) }

func (k *keyValueClient) putLarge() request {
	v := k.value()
	if n := k.cfg.LargeBytes; n > 0 {
		v = strings.Repeat(v+" ", 1+n/(len(v)+1))[:n]
	}
	return k.putValue(v)
}

func (k *keyValueClient) putValue(v string) request {
	return func(ctx context.Context) (int64, error) {
		resp, err := k.c.Put(ctx, k.keys.any(k.rnd), v)
		if err != nil {
			return 0, err
		}
		return resp.Header.GetRevision(), nil
	}
}

func (k *keyValueClient) get(rev int64) request {
	return func(ctx context.Context) (int64, error) {
		return k.revision(k.c.Get(ctx, k.keys.any(k.rnd), clientv3.WithRev(rev)))
	}
}

func (k *keyValueClient) list(rev, limit int64, keysOnly bool) request {
	return func(ctx context.Context) (int64, error) {
		return k.revision(k.c.Range(ctx, keyPrefix, clientv3.GetPrefixRangeEnd(keyPrefix), rev, limit, keysOnly))
	}
}

func (k *keyValueClient) stream(rev int64) request {
	return func(ctx context.Context) (int64, error) {
		return k.revision(k.c.RangeStream(ctx, keyPrefix, clientv3.GetPrefixRangeEnd(keyPrefix), rev, 0, false))
	}
}

func (k *keyValueClient) revision(resp *clientv3.GetResponse, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return resp.Header.GetRevision(), nil
}

func (k *keyValueClient) delete() request {
	done, ok := k.takeDelete()
	if !ok {
		return k.put()
	}
	return func(ctx context.Context) (int64, error) {
		defer done()
		resp, err := k.c.Delete(ctx, k.keys.get(k.rnd, true))
		if err != nil {
			return 0, err
		}
		return resp.Header.GetRevision(), nil
	}
}

// txn has several operations on distinct keys, a put among them. Half of the time it has a compare, and operations in
// both branches.
func (k *keyValueClient) txn() request {
	return func(ctx context.Context) (int64, error) {
		txn := k.c.Txn(ctx)
		if k.rnd.IntN(2) == 0 {
			// The key's mod revision may be one of the newest revisions.
			cmp := clientv3.Compare(clientv3.ModRevision(k.keys.any(k.rnd)), "=", k.oldRevision())
			txn = txn.If(cmp).Then(k.ops()...).Else(k.ops()...)
		} else {
			txn = txn.Then(k.ops()...)
		}
		resp, err := txn.Commit()
		if err != nil {
			return 0, err
		}
		return resp.Header.GetRevision(), nil
	}
}

func (k *keyValueClient) ops() []clientv3.Op {
	used := map[string]bool{}
	var ops []clientv3.Op
	put := k.rnd.IntN(txnOps)
	for i := range txnOps {
		kind := k.rnd.IntN(10)
		key := k.keys.any(k.rnd)
		if used[key] {
			continue
		}
		used[key] = true
		switch {
		case i == put || kind >= 5 || len(ops) == 0:
			ops = append(ops, clientv3.OpPut(key, k.value()))
		case kind == 0:
			ops = append(ops, clientv3.OpDelete(key))
		default:
			ops = append(ops, clientv3.OpGet(key))
		}
	}
	return ops
}

func (k *keyValueClient) compareAndSet() request {
	return func(ctx context.Context) (int64, error) {
		key := k.keys.any(k.rnd)
		get, err := k.c.Get(ctx, key)
		if err != nil {
			return 0, err
		}
		var mod int64
		if len(get.Kvs) == 1 {
			mod = get.Kvs[0].ModRevision
		}
		resp, err := k.c.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", mod)).
			Then(clientv3.OpPut(key, k.value())).
			Else(clientv3.OpGet(key)).
			Commit()
		if err != nil {
			return 0, err
		}
		return resp.Header.GetRevision(), nil
	}
}

func (k *keyValueClient) putWithLease() request {
	return func(ctx context.Context) (int64, error) {
		if k.lease == 0 {
			resp, err := k.c.LeaseGrant(ctx, leaseTTL)
			if err != nil {
				return 0, err
			}
			k.lease = int64(resp.ID)
		}
		resp, err := k.c.PutWithLease(ctx, leased(k.rnd), k.value(), k.lease)
		if err != nil {
			return 0, err
		}
		return resp.Header.GetRevision(), nil
	}
}

func (k *keyValueClient) revoke() request {
	done, ok := k.takeDelete()
	if !ok || k.lease == 0 {
		if ok {
			done()
		}
		return k.putWithLease()
	}
	return func(ctx context.Context) (int64, error) {
		defer done()
		resp, err := k.c.LeaseRevoke(ctx, k.lease)
		// After a lost answer the lease may exist or not. The client uses a new lease either way.
		k.lease = 0
		if err != nil {
			return 0, err
		}
		k.revoked.Store(true)
		return resp.Header.GetRevision(), nil
	}
}
