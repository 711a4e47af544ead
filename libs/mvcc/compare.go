package mvcc

import (
	"bytes"
	"cmp"
	"context"
	"slices"
)

// allHold says whether all compares hold. Each range is scanned once, however many compares are about it, and only up
// to the first key that fails one.
func (g *group) allHold(ctx context.Context, compares []Compare) (bool, error) {
	var ranges rangeCompares
	for i := range compares {
		c := &compares[i]
		if !single(c.End) {
			ranges.add(c)
			continue
		}
		if ok, err := g.holds(ctx, c); err != nil || !ok {
			return false, err
		}
	}
	for _, cs := range ranges.order {
		if ok, err := g.holds(ctx, cs...); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// rangeCompares are the compares of a transaction that are about ranges, by range.
type rangeCompares struct {
	order [][]*Compare
	place map[rangeKey]int
}

type rangeKey struct{ key, end string }

func (r *rangeCompares) add(c *Compare) {
	if r.place == nil {
		r.place = make(map[rangeKey]int)
	}
	k := rangeKey{string(c.Key), string(c.End)}
	i, ok := r.place[k]
	if !ok {
		i = len(r.order)
		r.place[k] = i
		r.order = append(r.order, nil)
	}
	r.order[i] = append(r.order[i], c)
}

// holds evaluates compares of one range for every key in it, or for one zero record if it has none. A value that does
// not exist never compares (etcd: "no way to represent missing value").
func (g *group) holds(ctx context.Context, cs ...*Compare) (ok bool, err error) {
	ok = true
	found := false
	var values valueCompares
	err = g.walk(ctx, cs[0].Key, cs[0].End, func(st *keyState) error {
		found = true
		for _, c := range cs {
			switch {
			case c.Target != CompareValue:
				ok = c.test(cmp.Compare(g.field(st, c.Target), c.operand()))
			case !single(c.End):
				ok, err = values.add(ctx, g, c, st)
			default:
				ok, err = g.valueHolds(ctx, c, st)
			}
			if err != nil {
				return err
			}
			if !ok {
				return errStop
			}
		}
		return nil
	})
	if err == nil && ok && found {
		ok, err = values.hold(ctx, g)
	}
	if err != nil || found {
		return ok, err
	}
	for _, c := range cs {
		if c.Target == CompareValue || !c.test(cmp.Compare(0, c.operand())) {
			return false, nil
		}
	}
	return true, nil
}

// valueCompares are compares of the values of a range's keys, which wait until some of them can be read together.
type valueCompares struct {
	compares []*Compare
	states   []*keyState // of each compare; each state's compares lie side by side
	bytes    int
}

// add takes a compare; ok is false if it, or one of those that waited, does not hold.
func (v *valueCompares) add(ctx context.Context, g *group, c *Compare, st *keyState) (ok bool, err error) {
	if n := len(v.states); n > 0 && bytes.Equal(v.states[n-1].key, st.key) {
		st = v.states[n-1]
	} else if st, err = g.keep(st); err != nil {
		return false, err
	} else {
		v.bytes += st.rec.size
	}
	v.compares, v.states = append(v.compares, c), append(v.states, st)
	if len(v.states) < pageKeys && v.bytes < pageBytes {
		return true, nil
	}
	return v.hold(ctx, g)
}

// hold reads the values and says whether all compares hold.
func (v *valueCompares) hold(ctx context.Context, g *group) (bool, error) {
	if err := g.loadCounted(ctx, slices.Compact(slices.Clone(v.states))); err != nil {
		return false, err
	}
	for i, c := range v.compares {
		if ok, err := g.valueHolds(ctx, c, v.states[i]); err != nil || !ok {
			return false, err
		}
	}
	*v = valueCompares{compares: v.compares[:0], states: v.states[:0]}
	return true, nil
}

func (g *group) valueHolds(ctx context.Context, c *Compare, st *keyState) (bool, error) {
	v, err := g.read(ctx, st)
	if err != nil {
		return false, err
	}
	return c.test(bytes.Compare(v, c.Value)), nil
}

// read is value for something that a request reads, so it counts.
func (g *group) read(ctx context.Context, st *keyState) ([]byte, error) {
	if !st.has {
		if err := g.budget.spend(st.rec.size); err != nil {
			return nil, err
		}
		if err := g.hold(st.rec.size); err != nil {
			return nil, err
		}
	}
	return g.value(ctx, st)
}

// operand returns the integer to compare with. An unknown target compares as equal.
func (c *Compare) operand() int64 {
	if c.Target < CompareVersion || c.Target > CompareLease {
		return 0
	}
	return c.Int
}

func (g *group) field(st *keyState, t CompareTarget) int64 {
	switch t {
	case CompareVersion:
		return st.rec.version
	case CompareCreate:
		return g.num(st.rec.create)
	case CompareMod:
		return g.num(st.rec.mod)
	case CompareLease:
		return st.rec.lease
	}
	return 0
}

// test applies the requested result. An unknown result always holds (txn/txn.go).
func (c *Compare) test(order int) bool {
	switch c.Result {
	case Equal:
		return order == 0
	case Greater:
		return order > 0
	case Less:
		return order < 0
	case NotEqual:
		return order != 0
	}
	return true
}
