package mvcc

import (
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Put sets a key. Result: Rev, and Prev if the request demands it and the key existed. Errors: ErrLeaseNotFound,
// ErrKeyNotFound (ignore_* on a missing key), ErrNoSpace, ErrTooManyRequests, ErrTooLarge, ErrUnavailable (outcome
// unknown), the context's (outcome unknown).
func (s *Store) Put(ctx context.Context, p *PutRequest) (*Result, error) {
	s.usage.Puts.Add(1)
	return s.submit(ctx, p, len(p.Key)+len(p.Value))
}

// DeleteRange deletes the keys of a range in one revision. Result: Rev, Deleted, and Prev in key order if the request
// demands it. Errors: as Put.
func (s *Store) DeleteRange(ctx context.Context, d *DeleteRequest) (*Result, error) {
	s.usage.Deletes.Add(1)
	return s.submit(ctx, d, len(d.Key)+len(d.End))
}

// Txn runs a transaction. The request must be valid in etcd's sense: no branch may put a key twice, or put and delete
// it. Result: Rev, Succeeded, Ops. Errors: as Put, and those of ranges in it: ErrCompacted and ErrFutureRevision.
func (s *Store) Txn(ctx context.Context, t *TxnRequest) (*Result, error) {
	s.usage.Txns.Add(1)
	res, err := s.runTxn(ctx, t)
	if err == nil {
		s.usage.countOps(res.Ops)
	}
	return res, err
}

func (s *Store) runTxn(ctx context.Context, t *TxnRequest) (*Result, error) {
	if t.Writes() {
		return s.submit(ctx, t, t.size())
	}
	turn, err := s.beginRead(ctx)
	if err != nil {
		return nil, err
	}
	defer turn.end()
	var res *Result
	told := 0
	err = s.view(ctx, func(snap engine.Snapshot) (err error) {
		g := newGroup(s, snap, 0, 0)
		g.allow = s.fullAllowance()
		g.budget = budget{left: g.allow.rows, over: g.allow.over, ctx: ctx, answer: t.Hold, told: &told}
		if g.head, err = s.headOf(ctx, snap); err != nil {
			return err
		}
		if err = s.admits(ctx, snap, t.Access); err != nil {
			return err
		}
		if err = g.loadView(ctx, t); err != nil {
			return err
		}
		g.rev, res = g.head, new(Result)
		return t.run(ctx, g, res)
	})
	if errors.Is(err, errGone) {
		err = ctx.Err()
	}
	if err != nil {
		return nil, wanted(t, refused(err))
	}
	return res, nil
}

// submit sends a mutation through group commit and waits for the result.
func (s *Store) submit(ctx context.Context, m mutation, bytes int) (*Result, error) {
	if s.noSpace.Load() && m.grows() {
		return nil, ErrNoSpace
	}
	if !s.fits(m) {
		return nil, ErrTooLarge
	}
	r := &request{m: m, ctx: ctx, bytes: bytes, access: accessOf(ctx, m), done: make(chan struct{})}
	if m.grows() && s.o.Quota > 0 {
		s.hold(r, s.cost(m))
		if err := s.reserved(r); err != nil {
			return nil, err
		}
	}
	if err := s.queue.put(r); err != nil {
		r.release()
		return nil, err
	}
	res, err := r.wait()
	s.tell(r)
	return res, err
}

// size is the memory that the request takes in the queue.
func (t *TxnRequest) size() int {
	n := 0
	for i := range t.Compares {
		n += len(t.Compares[i].Key) + len(t.Compares[i].End) + len(t.Compares[i].Value)
	}
	for _, ops := range [2][]Op{t.Success, t.Failure} {
		for i := range ops {
			n += ops[i].size()
		}
	}
	return n
}

func (o *Op) size() int {
	switch {
	case o.Put != nil:
		return len(o.Put.Key) + len(o.Put.Value)
	case o.Delete != nil:
		return len(o.Delete.Key) + len(o.Delete.End)
	case o.Range != nil:
		return len(o.Range.Key) + len(o.Range.End)
	case o.Txn != nil:
		return o.Txn.size()
	}
	return 0
}
