package mvcc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Bounds of a count that uses the index.
const (
	// stretchesMax is how many pieces of a range are read together: counters, or rows to walk over. There are at most
	// three, except while the index is being made.
	stretchesMax = 16
	// netEntries and netBytes bound the log between an older revision and the head that a count at the older revision
	// reads. If there is more, the count walks over the keys.
	netEntries = 2048
	netBytes   = 1 << 20
	// walkBuckets sets how many keys of a piece are walked over before the rest of its buckets is: as many as so many
	// buckets may have. Only what has been filled a moment ago, and has not been split since, has more.
	walkBuckets = 2
	// countTriesMax is how many snapshots may become too old for a count, one of which may have been old before.
	countTriesMax = 3
)

// stretch is a piece of a range of keys whose number is in counters, or that has to be walked over.
type stretch struct {
	begin, end []byte // end is nil: to the end
	counted    bool
	// of are the buckets of which the piece is a part, if their counters together are the number of their keys; else
	// nil.
	of *span
}

// stretches cuts a range into pieces.
func (b *buckets) stretches(key, end []byte) (out []stretch) {
	if bytes.Compare(key, []byte{0}) <= 0 {
		key = nil // where the first bucket begins
	}
	if toEnd(end) {
		end = nil
	}
	from := b.base(b.at(key))
	for i := from; i < len(b.starts) && (end == nil || bytes.Compare(b.starts[i], end) < 0); {
		next := b.group(i)
		p := stretch{begin: b.starts[i], counted: b.states[i] == bucketSettled}
		if next < len(b.starts) {
			p.end = b.starts[next]
		}
		i = next
		all, exact := span{p.begin, p.end}, p.counted
		if bytes.Compare(p.begin, key) < 0 {
			p.begin, p.counted = key, false
		}
		if end != nil && (p.end == nil || bytes.Compare(p.end, end) > 0) {
			p.end, p.counted = end, false
		}
		if exact && !p.counted {
			p.of = &all
		}
		if n := len(out); n > 0 && out[n-1].counted == p.counted && out[n-1].of == nil && p.of == nil {
			out[n-1].end = p.end
			continue
		}
		if p.counted && b.plain { // and so are all but the last
			if i = len(b.starts); end != nil {
				i = max(next, b.at(end))
			}
			if p.end = nil; i < len(b.starts) {
				p.end = b.starts[i]
			}
		}
		out = append(out, p)
	}
	return out
}

// readIndex returns the buckets in a reader's state, without a conflict; nil: there are none.
func (s *Store) readIndex(ctx context.Context, r engine.Reader) (*buckets, error) {
	if !s.Features().Has(FeatureCounts) {
		return nil, nil
	}
	last, err := s.parseChange(s.scanChange(ctx, r))
	if err != nil {
		return nil, err
	}
	return s.bucketsOf(ctx, r, last)
}

// scanChange starts to read the row of the last change of the buckets, like scanHead.
func (s *Store) scanChange(ctx context.Context, r engine.Reader) engine.Iterator {
	end := append(slices.Clip(s.bucketsRow), 0)
	return r.Scan(ctx, engine.Range{Begin: s.bucketsRow, End: end, Limit: 1, NoConflict: true})
}

func (s *Store) parseChange(it engine.Iterator) (change, error) {
	defer it.Close()
	if it.Next() {
		return parseChange(it.Value())
	}
	return change{}, storeErr(it.Err())
}

// countLatest counts the keys of a range in a reader's state by the index, without a conflict. It calls spend for each
// row. ok is false if the index does not help.
func (s *Store) countLatest(
	ctx context.Context, r engine.Reader, key, end []byte, spend func() error,
) (n int64, ok bool, err error) {
	known := s.buckets.Load()
	if known == nil || !s.Features().Has(FeatureCounts) {
		known, err = s.readIndex(ctx, r)
		if known == nil || err != nil {
			return 0, false, err
		}
	}
	for {
		// Read what the buckets in memory say together with the proof that they are the right ones.
		parts := known.stretches(key, end)
		helps := func(p stretch) bool { return p.counted || p.of != nil }
		if len(parts) > stretchesMax || !slices.ContainsFunc(parts, helps) {
			return 0, false, nil
		}
		change, its := s.scanChange(ctx, r), s.scanStretches(ctx, r, parts)
		last, err := s.parseChange(change)
		if err == nil && last.number == known.number {
			n, err = s.sumStretches(ctx, r, parts, its, spend)
		} else if err == nil && len(parts) == 1 && !parts[0].counted {
			// Where the buckets begin does not matter to a range with few keys.
			var whole bool
			if n, whole, err = walkKeys(its[0], s.walkMost(), spend); whole && err == nil {
				return n, true, its[0].Close()
			}
		}
		for _, it := range its {
			err = errors.Join(err, it.Close())
		}
		if err != nil || last.number == known.number {
			return n, err == nil, storeErr(err)
		}
		if known, err = s.bucketsOf(ctx, r, last); known == nil || err != nil {
			return 0, false, err
		}
	}
}

// scanStretches starts to read what the pieces of a range need.
func (s *Store) scanStretches(ctx context.Context, r engine.Reader, parts []stretch) (its []engine.Iterator) {
	for _, p := range parts {
		if p.counted {
			its = append(its, s.scanCounters(ctx, r, span{p.begin, p.end}))
		} else {
			its = append(its, s.scanKeys(ctx, r, span{p.begin, p.end}))
		}
	}
	return its
}

// scanCounters starts to read the counters of the buckets that begin in a span. Its end may be nil: there is none.
func (s *Store) scanCounters(ctx context.Context, r engine.Reader, in span) engine.Iterator {
	rng := engine.Range{
		Begin: s.rows.counter(nil, in.key), End: s.rows.table(nil, tableCounter+1), NoConflict: true,
	}
	if in.end != nil {
		rng.End = s.rows.counter(nil, in.end)
	}
	return r.Scan(ctx, rng)
}

// scanKeys starts to read the keys of a span. Its end may be nil: there is none.
func (s *Store) scanKeys(ctx context.Context, r engine.Reader, in span) engine.Iterator {
	rng := engine.Range{
		Begin: s.rows.idx(nil, in.key), End: s.rows.table(nil, tableIdx+1), KeysOnly: true, NoConflict: true,
	}
	if in.end != nil {
		rng.End = s.rows.idx(nil, in.end)
	}
	return r.Scan(ctx, rng)
}

// sumStretches adds up the numbers of keys of some pieces, which its read.
func (s *Store) sumStretches(
	ctx context.Context, r engine.Reader, parts []stretch, its []engine.Iterator, spend func() error,
) (n int64, err error) {
	for i, it := range its {
		sum := int64(0)
		switch p := parts[i]; {
		case p.counted:
			sum, err = sumCounters(it, spend)
		case p.of != nil:
			sum, err = s.countPart(ctx, r, p, it, spend)
		default:
			sum, _, err = walkKeys(it, -1, spend)
		}
		if err != nil {
			return 0, err
		}
		n += sum
	}
	return n, nil
}

func sumCounters(it engine.Iterator, spend func() error) (n int64, err error) {
	for it.Next() {
		if err := spend(); err != nil {
			return 0, err
		}
		keys, ok := engine.ParseCounter(it.Value())
		if !ok {
			return 0, fmt.Errorf("%w: a counter of keys has %d bytes", ErrCorrupt, len(it.Value()))
		}
		n += keys
	}
	return n, it.Err()
}

// walkKeys counts the keys that it reads, at most most of them; negative: all. whole says that there are no more.
func walkKeys(it engine.Iterator, most int64, spend func() error) (n int64, whole bool, err error) {
	for ; n != most; n++ {
		if !it.Next() {
			return n, true, it.Err()
		}
		if err := spend(); err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// walkMost is how many keys are walked over before the rest of their buckets is.
func (s *Store) walkMost() int64 { return walkBuckets * int64(s.o.CountKeys) }

// countPart counts a piece of some buckets. It walks over the keys of the piece, which it reads, and where they are
// many also over those of the rest of the buckets, and subtracts these from what the counters say. It ends when it has
// been through either. So a prefix that has nearly all keys of a bucket is counted at once, however large the bucket
// still is.
func (s *Store) countPart(
	ctx context.Context, r engine.Reader, p stretch, it engine.Iterator, spend func() error,
) (n int64, err error) {
	n, whole, err := walkKeys(it, s.walkMost(), spend)
	if whole || err != nil {
		return n, err
	}
	its := []engine.Iterator{s.scanCounters(ctx, r, *p.of)}
	if !bytes.Equal(p.begin, p.of.key) {
		its = append(its, s.scanKeys(ctx, r, span{p.of.key, p.begin}))
	}
	if p.end != nil && !bytes.Equal(p.end, p.of.end) {
		its = append(its, s.scanKeys(ctx, r, span{p.end, p.of.end}))
	}
	defer func() {
		for _, it := range its {
			err = errors.Join(err, it.Close())
		}
	}()
	all, err := sumCounters(its[0], spend)
	if err != nil {
		return 0, err
	}
	for _, rest := range its[1:] {
		for rest.Next() {
			if err := errors.Join(spend(), spend()); err != nil {
				return 0, err
			}
			if !it.Next() {
				return n, it.Err()
			}
			n++
			all--
		}
		if err := rest.Err(); err != nil {
			return 0, err
		}
	}
	return all, nil
}

// count counts the keys of the range from key on at the query's revision.
func (q *query) count(ctx context.Context, key []byte) (n int64, err error) {
	if !toEnd(q.req.End) && bytes.Compare(key, q.req.End) >= 0 {
		return 0, nil
	}
	n, ok, err := q.countIndexed(ctx, key)
	tries := 1
	for stale := 0; errors.Is(err, engine.ErrTooOld) && q.snap != nil && stale < staleScansMax; stale++ {
		if err = q.refresh(ctx); err != nil { // the reader's head is not known
			continue
		}
		if tries == countTriesMax {
			ok = false // a scan goes on where a snapshot has ended
			break
		}
		tries++
		n, ok, err = q.countIndexed(ctx, key)
	}
	if ok || err != nil {
		return n, err
	}
	n = 0
	err = q.scan(ctx, key, needKey, -1, func(*KV) error { n++; return nil })
	return n, err
}

// countIndexed counts by the index: the count in the reader's state, minus what has changed since the query's revision.
func (q *query) countIndexed(ctx context.Context, key []byte) (n int64, ok bool, err error) {
	if !q.s.Features().Has(FeatureCounts) {
		return 0, false, nil
	}
	spend := func() error {
		if q.budget == nil {
			return nil
		}
		return q.budget.spend(0)
	}
	var net int64
	if q.rev < q.head {
		if net, ok, err = q.netSince(ctx, key, spend); err != nil || !ok {
			return 0, false, err
		}
	}
	n, ok, err = q.s.countLatest(ctx, q.reader, key, q.req.End, spend)
	return n - net, ok, err
}

// netSince returns by how much the number of keys in a range has grown between the query's revision and the head. ok is
// false if the log in between is too long.
func (q *query) netSince(ctx context.Context, key []byte, spend func() error) (net int64, ok bool, err error) {
	s := q.s
	if s.limits.Dense && q.head-q.rev > netEntries {
		return 0, false, nil
	}
	in := span{key, q.req.End}
	it := &bounded{Iterator: q.reader.Scan(ctx, engine.Range{
		Begin: s.rows.log(nil, s.meta.Space.Stamp(q.rev+1)), End: s.rows.table(nil, tableLog+1),
		Limit: netEntries + 1, NoConflict: true,
	}), rows: netEntries, bytes: netBytes}
	defer it.Close()
	err = s.visitLog(it, func(st engine.Stamp, payload []byte, _ int64) (bool, error) {
		err := s.codec.Visit(payload, s.meta.Space.Of(st), func(ev *revlog.Event, _ revlog.PrevAt) {
			switch {
			case ev.Delete == !ev.HasPrev || !in.has(ev.KV.Key):
			case ev.Delete:
				net--
			default:
				net++
			}
		})
		return true, errors.Join(err, spend())
	})
	if it.over {
		return 0, false, nil
	}
	return net, err == nil, err
}

// bounded is an iterator that ends, and sets over, when it has read too many rows or bytes.
type bounded struct {
	engine.Iterator
	rows, bytes int
	over        bool
}

func (b *bounded) Next() bool {
	if !b.Iterator.Next() {
		return false
	}
	b.rows--
	b.bytes -= len(b.Value())
	b.over = b.rows < 0 || b.bytes < 0
	return !b.over
}

// count counts the live keys of a range as the group sees them. The whole range becomes a conflict, as if it had been
// walked over. The counters, which others change all the time, do not.
func (g *group) count(ctx context.Context, key, end []byte) (n int64, err error) {
	if in := (span{key, end}); !oneKey(key, end) && !in.empty() {
		n, ok, err := g.s.countLatest(ctx, g.txn, key, end, func() error { return g.budget.spend(0) })
		if err != nil {
			return 0, err
		}
		if ok {
			if txn, writes := g.txn.(engine.Txn); writes {
				txn.AddReadConflict(g.s.rows.idxBounds(key, end))
			}
			for _, st := range g.changedIn(key, end) {
				n += st.born()
			}
			return n, nil
		}
	}
	err = g.walk(ctx, key, end, func(*keyState) error { n++; return nil })
	return n, err
}
