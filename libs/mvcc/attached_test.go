package mvcc_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// attachMany puts n keys on a lease, many in each request.
func attachMany(ctx context.Context, s *mvcc.Store, lease int64, n int) error {
	for i := 0; i < n; {
		t := &mvcc.TxnRequest{}
		for ; len(t.Success) < 100 && i < n; i++ {
			p := &mvcc.PutRequest{Key: fmt.Appendf(nil, "many/%04d", i), Lease: lease}
			t.Success = append(t.Success, mvcc.Op{Put: p})
		}
		if _, err := s.Txn(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// TestRevokeAmongOthers: a revoke deletes the keys of its lease and no others, however many keys of others lie between
// them, and whatever bytes are in them. A change of a key of others beside them does not make it run again.
func TestRevokeAmongOthers(t *testing.T) {
	for _, others := range []int{0, 1, 4} { // for each key, on average
		t.Run(fmt.Sprint(others), func(t *testing.T) { revokeAmong(t, others) })
	}
}

func revokeAmong(t *testing.T, others int) {
	const keys = 700
	rnd := rand.New(rand.NewPCG(seed(t), 0))
	var shut atomic.Bool
	entered, release := make(chan struct{}), make(chan struct{})
	e := faults.New(openEngine(t, fdb), faults.Options{Delay: func(_ context.Context, op faults.Op) {
		if op == faults.Commit && shut.CompareAndSwap(true, false) {
			close(entered)
			<-release
		}
	}})
	a, b := open(t, e, mvcc.Options{NoRemoval: true}), open(t, e, mvcc.Options{NoRemoval: true})
	for _, id := range []int64{7, 8} {
		if _, err := a.LeaseGrant(t.Context(), id, 100, nil); err != nil {
			t.Fatal(err)
		}
	}
	stay := fillAmong(t, a, rnd, keys, others)
	shut.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := a.LeaseRevoke(t.Context(), 7, nil); err != nil {
			t.Error(err)
		}
	})
	<-entered
	before := a.Usage().Conflicts.Load() + a.Usage().Outdated.Load()
	for _, key := range [][]byte{[]byte("k0001/between"), stay[len(stay)/2]} {
		if _, err := b.Put(t.Context(), &mvcc.PutRequest{Key: key}); err != nil {
			t.Error(err)
		}
	}
	close(release)
	wg.Wait()
	if n := a.Usage().Conflicts.Load() + a.Usage().Outdated.Load() - before; n != 0 {
		t.Errorf("%d conflicts", n)
	}
	left := map[string]bool{}
	for _, kv := range everything(t, a) {
		left[string(kv.Key)] = true
		if kv.Lease == 7 {
			t.Errorf("%q is left", kv.Key)
		}
	}
	for _, key := range stay {
		if !left[string(key)] {
			t.Errorf("%q is gone", key)
		}
	}
	check(t, e, a, nil, false)
}

// fillAmong puts n keys on lease 7, and keys of others between them. It returns those.
func fillAmong(t *testing.T, s *mvcc.Store, rnd *rand.Rand, n, others int) (stay [][]byte) {
	t.Helper()
	all := &mvcc.TxnRequest{}
	put := func(key []byte, lease int64) {
		value := bytes.Repeat([]byte{'v'}, rnd.IntN(2)*1000)
		all.Success = append(all.Success, mvcc.Op{Put: &mvcc.PutRequest{Key: key, Value: value, Lease: lease}})
		if len(all.Success) < 100 {
			return
		}
		if _, err := s.Txn(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		all = &mvcc.TxnRequest{}
	}
	stay = append(stay, []byte("k"))
	put(stay[0], 8)
	for i := range n {
		put(fmt.Appendf(nil, "k%04d%s", i, []string{"", "\x00", "\xff", "/\x00\xff"}[rnd.IntN(4)]), 7)
		for j := range rnd.IntN(2*others + 1) {
			key := fmt.Appendf(nil, "k%04d\xff\xff%d", i, j)
			stay = append(stay, key)
			put(key, 8*rnd.Int64N(2))
		}
	}
	stay = append(stay, []byte("l"))
	put(stay[len(stay)-1], 0)
	for i := 0; len(all.Success) > 0; i++ { // until the last request is full
		stay = append(stay, fmt.Appendf(nil, "m%02d", i))
		put(stay[len(stay)-1], 8)
	}
	return stay
}
