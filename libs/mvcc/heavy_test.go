package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// scanGate stops whoever scans at a row, when it is shut, and counts the rows.
type scanGate struct {
	rows    atomic.Int64
	stopAt  atomic.Int64 // 0: never
	entered chan struct{}
	release chan struct{}
}

func openScanned(t *testing.T, o mvcc.Options) (*scanGate, *mvcc.Store, *faults.Store) {
	g := &scanGate{entered: make(chan struct{}, 100), release: make(chan struct{})}
	e := faults.New(openEngine(t, pebble.Options{}),
		faults.Options{KeepPipelined: true, Delay: func(ctx context.Context, op faults.Op) {
			if op == faults.Next && g.rows.Add(1) == g.stopAt.Load() {
				g.entered <- struct{}{}
				select {
				case <-g.release:
				case <-ctx.Done():
				}
			}
		}})
	return g, open(t, e, o), e
}

// arm stops the scan that comes rows further on.
func (g *scanGate) arm(rows int64) { g.stopAt.Store(g.rows.Load() + rows) }

func fill(t *testing.T, s *mvcc.Store, n int) {
	t.Helper()
	for i := range n {
		put(t, s, fmt.Sprintf("k%04d", i), "v")
	}
}

var allKeys = mvcc.RangeRequest{Key: []byte("k"), End: []byte("l")}

// existing is a condition that holds for each key of a range.
func existing(key, end string) mvcc.Compare {
	return mvcc.Compare{Key: []byte(key), End: []byte(end), Target: mvcc.CompareVersion, Result: mvcc.Greater}
}

// TestOthersGoOn: while a request scans for long, or is held up at it, other clients write, also to keys that it has
// read; it is then evaluated again and sees them. All kinds of request that scan.
func TestOthersGoOn(t *testing.T) {
	const keys = 100
	for name, heavy := range map[string]func(context.Context, *mvcc.Store) (int64, error){
		"compare": func(ctx context.Context, s *mvcc.Store) (int64, error) {
			res, err := s.Txn(ctx, &mvcc.TxnRequest{
				Compares: []mvcc.Compare{existing("k", "l")},
				Success:  []mvcc.Op{{Put: &mvcc.PutRequest{Key: []byte("done")}}, {Range: &mvcc.RangeRequest{Key: []byte("k"), End: []byte("l"), CountOnly: true}}},
			})
			if err != nil {
				return 0, err
			}
			return res.Ops[1].Count, nil
		},
		"range": func(ctx context.Context, s *mvcc.Store) (int64, error) {
			res, err := s.Txn(ctx, &mvcc.TxnRequest{Success: []mvcc.Op{
				{Put: &mvcc.PutRequest{Key: []byte("done")}}, {Range: &allKeys},
			}})
			if err != nil {
				return 0, err
			}
			return int64(len(res.Ops[1].KVs)), nil
		},
		"delete": func(ctx context.Context, s *mvcc.Store) (int64, error) {
			res, err := s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l"), PrevKV: true})
			if err != nil {
				return 0, err
			}
			return int64(len(res.Prev)), nil
		},
		"revoke": func(ctx context.Context, s *mvcc.Store) (int64, error) {
			if _, err := s.LeaseRevoke(ctx, 7, nil); err != nil {
				return 0, err
			}
			_, info := collect(t, s, &mvcc.RangeRequest{Key: []byte("k"), End: []byte("l"), CountOnly: true})
			return keys + 1 - info.Count, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, s, e := openScanned(t, mvcc.Options{LightRows: 10})
			if _, err := s.LeaseGrant(t.Context(), 7, 100, nil); err != nil {
				t.Fatal(err)
			}
			leased := func(key string) {
				if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte(key), Lease: 7}); err != nil {
					t.Error(err)
				}
			}
			for i := range keys {
				leased(fmt.Sprintf("k%04d", i))
			}
			g.arm(50)
			answer := make(chan error, 1)
			go func() {
				n, err := heavy(t.Context(), s)
				if err == nil && n != keys+1 {
					err = fmt.Errorf("%d keys seen", n)
				}
				answer <- err
			}()
			<-g.entered
			put(t, s, "elsewhere", "")
			leased("kk") // where the request has been or will be
			close(g.release)
			if err := <-answer; err != nil {
				t.Fatal(err)
			}
			if s.Usage().Conflicts.Load() == 0 {
				t.Error("it was not evaluated again")
			}
			check(t, e, s, nil, false).checkReads(s, 1)
		})
	}
}

// TestHeavyEnds: a request that meets a conflict whenever it is evaluated beside others comes to its end all the same.
func TestHeavyEnds(t *testing.T) {
	_, s, e := openScanned(t, mvcc.Options{LightRows: 10})
	fill(t, s, 200)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
					put(t, s, fmt.Sprintf("k%04d", (50*c+i)%200), "again")
				}
			}
		})
	}
	for range 3 {
		res, err := s.Txn(t.Context(), &mvcc.TxnRequest{
			Compares: []mvcc.Compare{existing("k", "l")}, Success: []mvcc.Op{{Put: &mvcc.PutRequest{Key: []byte("x")}}},
		})
		if err != nil || !res.Succeeded {
			t.Errorf("%+v, %v", res, err)
		}
	}
	close(done)
	wg.Wait()
	check(t, e, s, nil, false).checkReads(s, 100)
}

// TestRequestRows: a request that visits more than it may is refused and changes nothing, whatever it visits them
// for; the others of its group do not suffer.
func TestRequestRows(t *testing.T) {
	for _, dense := range []bool{true, false} {
		t.Run(fmt.Sprint("dense ", dense), func(t *testing.T) {
			engine := pebble.Options{}
			if !dense {
				engine = fdb
			}
			g, e := newGate(openEngine(t, engine))
			s := open(t, e, mvcc.Options{LightRows: 10, RequestRows: 250})
			fill(t, s, 100)
			old := put(t, s, "zz", "")
			all := func(r mvcc.RangeRequest) mvcc.Op { return mvcc.Op{Range: &r} }
			three := func(op mvcc.Op) []mvcc.Op {
				return []mvcc.Op{
					{Put: &mvcc.PutRequest{Key: []byte("changed")}},
					op,
					{Txn: &mvcc.TxnRequest{Success: []mvcc.Op{op}}},
					op,
				}
			}
			var requests []func()
			for i, txn := range []mvcc.TxnRequest{
				{Compares: []mvcc.Compare{existing("k", "l"), existing("j", "l"), existing("k", "m")}, Success: three(mvcc.Op{})[:1]},
				{Success: three(all(allKeys))},
				{Success: three(all(mvcc.RangeRequest{Key: []byte("k"), End: []byte{0}, CountOnly: true}))},
				{Success: three(all(mvcc.RangeRequest{Key: []byte("k"), End: []byte("l"), Limit: 1}))},
				{Success: three(all(mvcc.RangeRequest{Key: []byte("k"), End: []byte("l"), Rev: old, CountOnly: true}))},
				{Success: append(three(all(allKeys))[:3], mvcc.Op{Delete: &mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l")}})},
			} {
				requests = append(requests, func() {
					if _, err := s.Txn(t.Context(), &txn); !errors.Is(err, mvcc.ErrTooLarge) {
						t.Errorf("%d: %v", i, err)
					}
				}, func() { put(t, s, fmt.Sprint("fine", i), "") })
			}
			g.group(t, s, requests...)
			if kvs := everything(t, s); len(kvs) != 100+1+1+6 {
				t.Errorf("%d keys", len(kvs))
			}
			if _, err := s.Txn(t.Context(),
				&mvcc.TxnRequest{Success: three(all(allKeys))[1:]}); !errors.Is(err, mvcc.ErrTooLarge) {
				t.Errorf("reads alone: %v", err)
			}
			if res, err := s.DeleteRange(t.Context(),
				&mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l")}); err != nil || res.Deleted != 100 {
				t.Errorf("what it may: %+v, %v", res, err)
			}
			check(t, e, s, nil, false).checkReads(s, 100)
		})
	}
}

// TestComparesScanOnce: a range is scanned once for all compares of it, and no further than the first key that fails
// one.
func TestComparesScanOnce(t *testing.T) {
	g, s, _ := openScanned(t, mvcc.Options{})
	fill(t, s, 300)
	for _, c := range []struct {
		fails int // key
		rows  int64
	}{{-1, 302}, {40, 43}} {
		txn := mvcc.TxnRequest{Success: []mvcc.Op{{Put: &mvcc.PutRequest{Key: []byte("x")}}}}
		for range 100 {
			txn.Compares = append(txn.Compares, existing("k", "l"))
		}
		if c.fails >= 0 {
			put(t, s, fmt.Sprintf("k%04d", c.fails), "again")
			txn.Compares = append(txn.Compares,
				mvcc.Compare{Key: []byte("k"), End: []byte("l"), Target: mvcc.CompareVersion, Int: 1})
		}
		before := g.rows.Load()
		res, err := s.Txn(t.Context(), &txn)
		if rows := g.rows.Load() - before; err != nil || res.Succeeded != (c.fails < 0) || rows > c.rows {
			t.Errorf("%+v: %d rows, %+v, %v", c, rows, res, err)
		}
	}
}

// TestClientGone: the evaluation of a request ends soon after its client has gone, and changes nothing.
func TestClientGone(t *testing.T) {
	for _, light := range []int{10, 1 << 20} { // in the heavy lane, and in a group with others
		g, s, e := openScanned(t, mvcc.Options{LightRows: light})
		fill(t, s, 3000)
		ctx, cancel := context.WithCancel(t.Context())
		g.arm(100)
		answer := make(chan error, 1)
		go func() {
			_, err := s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l")})
			answer <- err
		}()
		<-g.entered
		cancel()
		close(g.release)
		if err := <-answer; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		put(t, s, "after", "") // the lane is free again
		if rows := g.rows.Load() - g.stopAt.Load(); rows > 600 {
			t.Errorf("%d rows after the client had gone", rows)
		}
		check(t, e, s, nil, false)
		if kvs := everything(t, s); len(kvs) != 3001 {
			t.Errorf("%d keys are left", len(kvs))
		}
	}
}
