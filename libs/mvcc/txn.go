package mvcc

import "context"

func (t *TxnRequest) grows() bool  { return t.puts() }
func (t *TxnRequest) proves() bool { return true }

func (t *TxnRequest) keys(add func([]byte)) {
	for i := range t.Compares {
		if single(t.Compares[i].End) {
			add(t.Compares[i].Key)
		}
	}
	for _, ops := range [2][]Op{t.Success, t.Failure} {
		for i := range ops {
			ops[i].keys(add)
		}
	}
}

func (o *Op) keys(add func([]byte)) {
	switch {
	case o.Put != nil:
		o.Put.keys(add)
	case o.Delete != nil:
		o.Delete.keys(add)
	case o.Txn != nil:
		o.Txn.keys(add)
	case o.Range != nil && single(o.Range.End) && o.Range.Rev <= 0:
		add(o.Range.Key)
	}
}

// run evaluates a transaction in etcd's three steps (txn/txn.go). First all compares, nested ones too, on the state
// before the transaction. Then it checks, also on that state, whether the operations on the chosen path can succeed.
// Then it runs the operations in order.
func (t *TxnRequest) run(ctx context.Context, g *group, res *Result) error {
	if err := t.onLeases(ctx, g); err != nil {
		return err
	}
	path, err := t.decide(ctx, g)
	if err != nil {
		return err
	}
	if err := path.check(ctx, g); err != nil {
		return err
	}
	if err := path.load(ctx, g); err != nil {
		return err
	}
	if err := path.apply(ctx, g, res); err != nil {
		return err
	}
	res.Rev = g.rev
	return nil
}

// txnPath is the branch that a transaction takes, with the paths of the transactions nested in it.
type txnPath struct {
	succeeded bool
	ops       []Op
	nested    []*txnPath // one for each operation that is a transaction, in order
}

func (t *TxnRequest) decide(ctx context.Context, g *group) (*txnPath, error) {
	p := &txnPath{succeeded: true, ops: t.Success}
	ok, err := g.allHold(ctx, t.Compares)
	if err != nil {
		return nil, err
	}
	if !ok {
		p.succeeded, p.ops = false, t.Failure
	}
	for i := range p.ops {
		if n := p.ops[i].Txn; n != nil {
			child, err := n.decide(ctx, g)
			if err != nil {
				return nil, err
			}
			p.nested = append(p.nested, child)
		}
	}
	return p, nil
}

func (p *txnPath) check(ctx context.Context, g *group) error {
	nested := p.nested
	for i := range p.ops {
		var err error
		switch o := &p.ops[i]; {
		case o.Range != nil:
			err = o.Range.checkRead(ctx, g)
		case o.Put != nil:
			err = o.Put.check(ctx, g)
		case o.Txn != nil:
			err = nested[0].check(ctx, g)
			nested = nested[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *txnPath) apply(ctx context.Context, g *group, res *Result) error {
	res.Succeeded = p.succeeded
	res.Ops = make([]OpResult, len(p.ops))
	nested := p.nested
	for i := range p.ops {
		out := &res.Ops[i]
		var err error
		switch o := &p.ops[i]; {
		case o.Range != nil:
			out.Kind = OpRange
			err = o.Range.read(ctx, g, &out.Result)
		case o.Put != nil:
			out.Kind = OpPut
			err = o.Put.apply(ctx, g, &out.Result)
		case o.Delete != nil:
			out.Kind = OpDelete
			err = o.Delete.run(ctx, g, &out.Result)
		case o.Txn != nil:
			out.Kind = OpTxn
			err = nested[0].apply(ctx, g, &out.Result)
			nested = nested[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}
