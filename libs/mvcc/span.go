package mvcc

import (
	"bytes"
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// errStop ends a walk early.
var errStop = errors.New("mvcc: seen enough")

// doomed returns, in order, the live keys of a range that the request deletes, as the group sees them.
func (g *group) doomed(ctx context.Context, key, end []byte) (span []*keyState, err error) {
	err = g.walk(ctx, key, end, func(st *keyState) error {
		if err := g.doom(st); err != nil {
			return err
		}
		if st, err = g.keep(st); err == nil {
			span = append(span, st)
		}
		return err
	})
	return span, err
}

// keep returns a state that a walk has shown, as one that stays valid. The group records it only when it is changed.
func (g *group) keep(st *keyState) (*keyState, error) {
	if st != &g.scratch {
		return st, nil
	}
	if err := g.hold(len(st.key) + len(g.scratchRow)); err != nil {
		return nil, err
	}
	row := bytes.Clone(g.scratchRow)
	kept := g.newState(bytes.Clone(st.key))
	return kept, kept.init(row, g.s.refs)
}

// walk visits the live keys of a range in order, as the group sees them. A state is valid only during the call of
// visit, unless it is kept with keep. visit may end the walk with errStop. Each row counts towards the request's
// budget.
func (g *group) walk(ctx context.Context, key, end []byte, visit func(*keyState) error) error {
	err := g.walkRows(ctx, key, end, func(st *keyState) error {
		if err := g.budget.spend(0); err != nil || !st.live {
			return err
		}
		return visit(st)
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// walkRows is walk, but also visits the keys that the group has deleted. A range of one key is read as that key, so
// that who changes the key too reads it, and adds its conflict, only once.
func (g *group) walkRows(ctx context.Context, key, end []byte, visit func(*keyState) error) error {
	if oneKey(key, end) {
		st, err := g.state(ctx, key)
		if err != nil {
			return err
		}
		return visit(st)
	}
	if !toEnd(end) && bytes.Compare(key, end) >= 0 {
		return nil
	}
	changed := g.changedIn(key, end)
	begin, stop := g.s.rows.idxBounds(key, end)
	it := g.txn.Scan(ctx, engine.Range{Begin: begin, End: stop})
	defer it.Close()
	for it.Next() {
		k := g.s.rows.idxKey(it.Key())
		for len(changed) > 0 && bytes.Compare(changed[0].key, k) < 0 {
			if err := visit(changed[0]); err != nil {
				return err
			}
			changed = changed[1:]
		}
		st, ok := g.states[string(k)]
		if ok && st.dirty {
			continue // visited with the changed keys
		}
		if !ok {
			g.scratch, g.scratchRow = keyState{key: k}, it.Value()
			st = &g.scratch
			if err := st.init(it.Value(), g.s.refs); err != nil {
				return err
			}
		}
		if err := visit(st); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return storeErr(err)
	}
	for _, st := range changed {
		if err := visit(st); err != nil {
			return err
		}
	}
	return nil
}

// oneKey reports whether a range can have only its first key, however its end is written.
func oneKey(key, end []byte) bool {
	return single(end) || !toEnd(end) && engine.Range{Begin: key, End: end}.OneKey()
}

// changedIn returns the changed keys of a range in order.
func (g *group) changedIn(key, end []byte) (changed []*keyState) {
	g.changes.AscendGreaterOrEqual(&keyState{key: key}, func(st *keyState) bool {
		if !toEnd(end) && bytes.Compare(st.key, end) >= 0 {
			return false
		}
		changed = append(changed, st)
		return true
	})
	return changed
}
