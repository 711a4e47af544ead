package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestOvertaken holds a request between its evaluation and its commit while another pod changes what it has read: it
// must be evaluated again.
func TestOvertaken(t *testing.T) {
	key, end := []byte("k"), []byte("l")
	put := func(p *mvcc.PutRequest) func(context.Context, *mvcc.Store) (*mvcc.Result, error) {
		return func(ctx context.Context, s *mvcc.Store) (*mvcc.Result, error) { return s.Put(ctx, p) }
	}
	txn := func(r *mvcc.TxnRequest) func(context.Context, *mvcc.Store) (*mvcc.Result, error) {
		return func(ctx context.Context, s *mvcc.Store) (*mvcc.Result, error) { return s.Txn(ctx, r) }
	}
	rev := func(f func(context.Context, *mvcc.Store) error) func(context.Context, *mvcc.Store) (*mvcc.Result, error) {
		return func(ctx context.Context, s *mvcc.Store) (*mvcc.Result, error) { return &mvcc.Result{}, f(ctx, s) }
	}
	var fence mvcc.Fence
	for _, c := range []struct {
		name        string
		setup       func(context.Context, *mvcc.Store) error
		held, other func(context.Context, *mvcc.Store) (*mvcc.Result, error)
		want        error
		check       func(*mvcc.Result) bool
	}{
		{
			name: "a compare of a key",
			held: txn(&mvcc.TxnRequest{
				Compares: []mvcc.Compare{{Key: key, Target: mvcc.CompareVersion}},
				Success:  []mvcc.Op{{Put: &mvcc.PutRequest{Key: key}}},
			}),
			other: put(&mvcc.PutRequest{Key: key}),
			check: func(r *mvcc.Result) bool { return !r.Succeeded },
		},
		{
			name: "a compare of a range",
			held: txn(&mvcc.TxnRequest{
				Compares: []mvcc.Compare{{Key: key, End: end, Target: mvcc.CompareCreate}},
				Success:  []mvcc.Op{{Put: &mvcc.PutRequest{Key: []byte("x")}}},
			}),
			other: put(&mvcc.PutRequest{Key: []byte("kk")}),
			check: func(r *mvcc.Result) bool { return !r.Succeeded },
		},
		{
			name: "a range beside a put",
			held: txn(&mvcc.TxnRequest{Success: []mvcc.Op{
				{Range: &mvcc.RangeRequest{Key: key, End: end}}, {Put: &mvcc.PutRequest{Key: []byte("x")}},
			}}),
			other: put(&mvcc.PutRequest{Key: []byte("kk")}),
			check: func(r *mvcc.Result) bool { return r.Ops[0].Count == 1 },
		},
		{
			name: "a delete of a range",
			setup: func(ctx context.Context, s *mvcc.Store) error {
				_, err := s.Put(ctx, &mvcc.PutRequest{Key: key})
				return err
			},
			held: func(ctx context.Context, s *mvcc.Store) (*mvcc.Result, error) {
				return s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: key, End: end})
			},
			other: put(&mvcc.PutRequest{Key: []byte("kk")}),
			check: func(r *mvcc.Result) bool { return r.Deleted == 2 },
		},
		{
			name: "a put with a lease that is revoked",
			setup: func(ctx context.Context, s *mvcc.Store) error {
				_, err := s.LeaseGrant(ctx, 7, 1, nil)
				return err
			},
			held: put(&mvcc.PutRequest{Key: key, Lease: 7}),
			other: rev(func(ctx context.Context, s *mvcc.Store) error {
				_, err := s.LeaseRevoke(ctx, 7, nil)
				return err
			}),
			want: mvcc.ErrLeaseNotFound,
		},
		{
			name: "a revoke while a key is attached",
			setup: func(ctx context.Context, s *mvcc.Store) error {
				_, err := s.LeaseGrant(ctx, 7, 1, nil)
				return err
			},
			held: rev(func(ctx context.Context, s *mvcc.Store) error {
				_, err := s.LeaseRevoke(ctx, 7, nil)
				return err
			}),
			other: put(&mvcc.PutRequest{Key: key, Lease: 7}),
		},
		{
			name: "a revoke of many keys while one of them is put",
			setup: func(ctx context.Context, s *mvcc.Store) error {
				if _, err := s.LeaseGrant(ctx, 7, 1, nil); err != nil {
					return err
				}
				return attachMany(ctx, s, 7, 100)
			},
			held: rev(func(ctx context.Context, s *mvcc.Store) error {
				_, err := s.LeaseRevoke(ctx, 7, nil)
				return err
			}),
			other: put(&mvcc.PutRequest{Key: []byte("many/0050"), Lease: 7}),
		},
		{
			name: "a lease granted twice",
			held: rev(func(ctx context.Context, s *mvcc.Store) error {
				_, err := s.LeaseGrant(ctx, 7, 1, nil)
				return err
			}),
			other: rev(func(ctx context.Context, s *mvcc.Store) error {
				_, err := s.LeaseGrant(ctx, 7, 2, nil)
				return err
			}),
			want: mvcc.ErrLeaseExists,
		},
		{
			name: "a revoke by an owner that is deposed",
			setup: func(ctx context.Context, s *mvcc.Store) (err error) {
				if _, err = s.LeaseGrant(ctx, 7, 1, nil); err == nil {
					fence, err = s.ClaimLeases(ctx, 0)
				}
				return err
			},
			held: rev(func(ctx context.Context, s *mvcc.Store) error {
				_, err := s.LeaseRevoke(ctx, 7, &fence)
				return err
			}),
			other: rev(func(ctx context.Context, s *mvcc.Store) error { _, err := s.ClaimLeases(ctx, 0); return err }),
			want:  mvcc.ErrFenced,
		},
		{
			name:  "a compaction",
			setup: writes(6),
			held:  rev(func(ctx context.Context, s *mvcc.Store) error { return compactBack(ctx, s, 3) }),
			other: rev(func(ctx context.Context, s *mvcc.Store) error { return compactBack(ctx, s, 1) }),
			want:  mvcc.ErrCompacted,
		},
		{
			name:  "a range at a revision that is compacted",
			setup: writes(6),
			held: func(ctx context.Context, s *mvcc.Store) (*mvcc.Result, error) {
				log, _, err := s.ReadLog(ctx, 0, 100, 1<<20)
				if err != nil {
					return nil, err
				}
				return s.Txn(ctx, &mvcc.TxnRequest{Success: []mvcc.Op{{Range: &mvcc.RangeRequest{Key: []byte("w"), Rev: log[1].Rev}}, {Put: &mvcc.PutRequest{Key: key}}}})
			},
			other: rev(func(ctx context.Context, s *mvcc.Store) error { return compactBack(ctx, s, 1) }),
			want:  mvcc.ErrCompacted,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			holding, arm, entered, release := holdCommit()
			e := faults.New(openEngine(t, fdb), holding)
			a, b := open(t, e, mvcc.Options{Shift: 3}), open(t, e, mvcc.Options{})
			if c.setup != nil {
				if err := c.setup(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
			arm()
			var wg sync.WaitGroup
			wg.Go(func() {
				res, err := c.held(t.Context(), a)
				if !errors.Is(err, c.want) || err == nil && c.check != nil && !c.check(res) {
					t.Errorf("%+v, %v", res, err)
				}
			})
			<-entered
			if _, err := c.other(t.Context(), b); err != nil {
				t.Error(err)
			}
			close(release)
			wg.Wait()
			if u := a.Usage(); u.Conflicts.Load()+u.Outdated.Load() == 0 {
				t.Error("no conflict")
			}
			check(t, e, a, nil, false)
		})
	}
}

func writes(n int) func(context.Context, *mvcc.Store) error {
	return func(ctx context.Context, s *mvcc.Store) error {
		for i := range n {
			if _, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte("w"), Value: fmt.Append(nil, i)}); err != nil {
				return err
			}
		}
		return nil
	}
}

// compactBack compacts at the n'th last entry.
func compactBack(ctx context.Context, s *mvcc.Store, n int) error {
	log, _, err := s.ReadLog(ctx, max(0, s.CompactRevision()), 100, 1<<20)
	if err == nil {
		_, err = s.Compact(ctx, log[len(log)-n].Rev, false)
	}
	return err
}
