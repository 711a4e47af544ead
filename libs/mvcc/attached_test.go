package mvcc_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
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

// clearing counts the mutations that clear rows, one by one and by ranges.
type clearing struct {
	engine.Store
	rows, ranges atomic.Int64
}

func (c *clearing) Begin(ctx context.Context) (engine.Txn, error) {
	txn, err := c.Store.Begin(ctx)
	return clearingTxn{txn, c}, err
}

type clearingTxn struct {
	engine.Txn
	c *clearing
}

func (t clearingTxn) Clear(key []byte) {
	t.c.rows.Add(1)
	t.Txn.Clear(key)
}

func (t clearingTxn) ClearRange(begin, end []byte) {
	t.c.ranges.Add(1)
	t.Txn.ClearRange(begin, end)
}

// TestRevokeClearsRange: the attachments of a lease that ends are cleared as one range, and only they: also if one of
// its keys goes to another lease in the same group, or the lease is granted again.
func TestRevokeClearsRange(t *testing.T) {
	const keys = 300
	c := &clearing{Store: openEngine(t, fdb)}
	g, e := newGate(c)
	s := open(t, e, mvcc.Options{Lanes: 1, NoRemoval: true})
	ctx := t.Context()
	grant := func(id int64) {
		if _, err := s.LeaseGrant(ctx, id, 100, nil); err != nil {
			t.Error(err)
		}
	}
	revoke := func() {
		if _, err := s.LeaseRevoke(ctx, 7, nil); err != nil {
			t.Error(err)
		}
	}
	putOn := func(key string, id int64) func() {
		return func() {
			if _, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte(key), Lease: id}); err != nil {
				t.Error(err)
			}
		}
	}
	move, again := putOn("many/0007", 8), func() { grant(7) }
	grant(8)
	for name, group := range map[string][]func(){
		"alone":    {revoke},
		"moved":    {move, revoke},
		"granted":  {revoke, again, move},
		"attached": {revoke, again, putOn("new", 7), putOn("many/0003", 7)},
	} {
		grant(7)
		if err := attachMany(ctx, s, 7, keys); err != nil {
			t.Fatal(err)
		}
		c.rows.Store(0)
		c.ranges.Store(0)
		g.group(t, s, group...)
		rows, ranges, granted := c.rows.Load(), c.ranges.Load(), len(group) > 2
		if !granted && (rows > keys+2 || ranges != 1) {
			t.Errorf("%s: %d rows and %d ranges cleared for %d keys", name, rows, ranges, keys)
		}
		check(t, e, s, nil, false)
		for id, want := range map[int64]int{
			7: map[string]int{"attached": 2}[name], 8: map[string]int{"moved": 1, "granted": 1}[name],
		} {
			if on, _, err := s.LeaseKeys(ctx, id); err != nil || len(on) != want {
				t.Errorf("%s: keys of lease %d: %q, %v", name, id, on, err)
			}
		}
		if _, err := s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: []byte("a"), End: []byte("z")}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.LeaseRevoke(ctx, 7, nil); (err == nil) != granted {
			t.Errorf("%s: the lease afterwards: %v", name, err)
		}
	}
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
	holding, arm, entered, release := holdCommit()
	e := faults.New(openEngine(t, fdb), holding)
	a, b := open(t, e, mvcc.Options{NoRemoval: true}), open(t, e, mvcc.Options{NoRemoval: true})
	for _, id := range []int64{7, 8} {
		if _, err := a.LeaseGrant(t.Context(), id, 100, nil); err != nil {
			t.Fatal(err)
		}
	}
	stay := fillAmong(t, a, rnd, keys, others)
	arm()
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
