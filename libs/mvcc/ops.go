package mvcc

import (
	"bytes"
	"context"
)

func (p *PutRequest) keys(add func([]byte)) { add(p.Key) }
func (p *PutRequest) grows() bool           { return true }
func (p *PutRequest) proves() bool          { return true }

func (p *PutRequest) run(ctx context.Context, g *group, res *Result) error {
	if p.Lease != 0 {
		if err := g.onLease(ctx, p.Lease); err != nil {
			return err
		}
	}
	if err := p.check(ctx, g); err != nil {
		return err
	}
	return p.apply(ctx, g, res)
}

// check returns the error that the put would fail with. It checks in etcd's order (txn/put.go): first the lease, then
// the key that ignore_value or ignore_lease needs.
func (p *PutRequest) check(ctx context.Context, g *group) error {
	if p.Lease != 0 {
		l, err := g.lease(ctx, p.Lease)
		if err != nil {
			return err
		}
		if !l.live {
			return ErrLeaseNotFound
		}
	}
	if p.IgnoreValue || p.IgnoreLease {
		st, err := g.state(ctx, p.Key)
		if err != nil {
			return err
		}
		if !st.live {
			return ErrKeyNotFound
		}
	}
	return g.admitKey(ctx, p.Key)
}

func (p *PutRequest) apply(ctx context.Context, g *group, res *Result) error {
	st, err := g.state(ctx, p.Key)
	if err != nil {
		return err
	}
	value, lease := p.Value, p.Lease
	if p.IgnoreValue {
		if value, err = g.value(ctx, st); err != nil {
			return err
		}
		value = bytes.Clone(value) // the event outlives the transaction's memory
	}
	if p.IgnoreLease {
		lease = st.rec.lease
	}
	replaces := st.live
	if p.PrevKV && replaces {
		if err := g.gather(ctx, []*keyState{st}, true); err != nil {
			return err
		}
	}
	i, err := g.put(ctx, st, value, lease)
	if err != nil {
		return err
	}
	res.Rev = g.rev
	if p.PrevKV && replaces {
		res.prevEvents = append(res.prevEvents, i)
	}
	return nil
}

func (d *DeleteRequest) keys(add func([]byte)) {
	if single(d.End) {
		add(d.Key)
	}
}
func (d *DeleteRequest) grows() bool  { return false }
func (d *DeleteRequest) proves() bool { return true }

func (d *DeleteRequest) run(ctx context.Context, g *group, res *Result) error {
	span, err := g.doomed(ctx, d.Key, d.End)
	if err != nil {
		return err
	}
	switch {
	case d.PrevKV:
		err = g.gather(ctx, span, true)
	case !g.apart(): // the log holds copies
		err = g.loadCounted(ctx, span)
	}
	if err != nil {
		return err
	}
	for _, st := range span {
		i, err := g.del(ctx, st)
		if err != nil {
			return err
		}
		if d.PrevKV {
			res.prevEvents = append(res.prevEvents, i)
		}
	}
	res.Deleted, res.Rev = int64(len(span)), g.rev
	return nil
}

// resultBytes is the memory that a key with its value takes in an answer. It is there twice while the answer is
// encoded.
func resultBytes(key, value int) int { return 2*(key+value) + eventBytes }

// gather counts keys as part of the answer, then loads their values if they are wanted.
func (g *group) gather(ctx context.Context, span []*keyState, values bool) error {
	for _, st := range span {
		size := 0
		if values {
			size = st.rec.size
		}
		if err := g.budget.gather(resultBytes(len(st.key), size)); err != nil {
			return err
		}
	}
	if !values {
		return nil
	}
	return g.loadCounted(ctx, span)
}

// loadCounted is loadValues for values that a request reads; these count towards the rows that it may visit.
func (g *group) loadCounted(ctx context.Context, span []*keyState) error {
	for _, st := range span {
		if !st.has {
			if err := g.budget.spend(st.rec.size); err != nil {
				return err
			}
		}
	}
	return g.loadValues(ctx, span)
}

// read evaluates a range inside a transaction. checkRead must have been called.
func (r *RangeRequest) read(ctx context.Context, g *group, res *Result) error {
	if r.Rev > 0 {
		return r.readOld(ctx, g, res)
	}
	span, err := r.collect(ctx, g, res)
	if err != nil || r.CountOnly {
		return err
	}
	// Filter, sort and limit as in a plain Range, over what the group sees. Pending revisions compare by num.
	if err := g.gather(ctx, span, r.values()); err != nil {
		return err
	}
	kvs := make([]KV, 0, len(span))
	for _, st := range span {
		kvs = append(kvs, st.kv())
	}
	kvs, more, err := r.arrange(ctx, kvs, g.num)
	if err != nil {
		return err
	}
	res.More = res.More || more
	for i := range kvs {
		kvs[i].Key, kvs[i].Value = bytes.Clone(kvs[i].Key), bytes.Clone(kvs[i].Value)
	}
	res.KVs = kvs
	return nil
}

// collect counts the keys of a range and returns those that the answer may hold. With a limit in key order it returns
// none beyond that.
func (r *RangeRequest) collect(ctx context.Context, g *group, res *Result) (span []*keyState, err error) {
	res.Rev = g.rev
	if r.CountOnly {
		res.Count, err = g.count(ctx, r.Key, r.End)
		return nil, err
	}
	limited := r.Limit > 0 && r.inKeyOrder()
	err = g.walk(ctx, r.Key, r.End, func(st *keyState) error {
		if limited && int64(len(span)) == r.Limit {
			left, err := g.count(ctx, st.key, r.End)
			if err != nil {
				return err
			}
			res.Count, res.More = res.Count+left, true
			return errStop
		}
		res.Count++
		kept, err := g.keep(st)
		span = append(span, kept)
		return err
	})
	return span, err
}

// readOld reads at a revision that the engine's transaction has. The group's own changes come later. checkRead must
// have been called.
func (r *RangeRequest) readOld(ctx context.Context, g *group, res *Result) error {
	q := query{s: g.s, req: r, head: g.head, rev: r.Rev, reader: g.txn, allowed: true, budget: &g.budget}
	info, err := q.run(ctx, func(kv *KV) error {
		if err := g.budget.spend(len(kv.Value)); err != nil {
			return err
		}
		if err := g.budget.gather(resultBytes(len(kv.Key), len(kv.Value))); err != nil {
			return err
		}
		res.KVs = append(res.KVs, cloneKV(kv))
		return nil
	})
	res.Rev, res.Count, res.More = g.rev, info.Count, info.More
	return storeErr(err)
}

// checkRead returns the error that a range in a transaction would fail with. A negative revision is below any compact
// revision but the initial one (etcd txn/range.go).
func (r *RangeRequest) checkRead(ctx context.Context, g *group) error {
	if r.Rev == 0 {
		return nil
	}
	g.needsHead = true
	if r.Rev > g.num(g.rev) {
		return ErrFutureRevision
	}
	c, err := g.compactRev(ctx)
	if err != nil {
		return err
	}
	switch {
	case r.Rev < c:
		return ErrCompacted
	case r.Rev > g.head:
		return errNextGroup
	}
	return nil
}

// arrange filters, sorts and cuts key-ordered kvs as RangeRequest demands. num maps revisions to the numbers that are
// compared. Errors: the context's.
func (r *RangeRequest) arrange(ctx context.Context, kvs []KV, num func(int64) int64) (out []KV, more bool, err error) {
	if r.Order == SortNone && !r.filtered() && r.Limit > 0 && int64(len(kvs))-1 > r.Limit {
		kvs = kvs[:r.Limit+1]
	}
	if r.filtered() {
		kept := kvs[:0]
		for i := range kvs {
			if r.keep(&kvs[i], num) {
				kept = append(kept, kvs[i])
			}
		}
		kvs = kept
	}
	if err := sortKVs(ctx, kvs, r.Order, r.Target, num); err != nil {
		return nil, false, err
	}
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, more = kvs[:r.Limit], true
	}
	for i := range kvs {
		r.strip(&kvs[i])
	}
	return kvs, more, nil
}
