package mvcc

import (
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// wants is what requests certainly need before they are evaluated. A group reads it together, because on a remote
// engine each separate read is a round trip.
type wants struct {
	keys   [][]byte // whose records
	rows   [][]byte // of other tables
	values [][]byte // keys whose values, once their records are known
}

// wanter is a mutation that needs more than the records of its keys.
type wanter interface {
	// ahead adds rows and values.
	ahead(s *Store, w *wants)
}

func (w *wants) add(s *Store, m mutation) {
	m.keys(func(key []byte) { w.keys = append(w.keys, key) })
	if m, ok := m.(wanter); ok {
		m.ahead(s, w)
	}
}

func (w *wants) lease(s *Store, id int64) { w.rows = append(w.rows, s.rows.lease(nil, id)) }

func (w *wants) fence(s *Store, f *Fence) {
	if f != nil {
		w.rows = append(w.rows, s.ownerRow(f.shard))
	}
}

func (p *PutRequest) ahead(s *Store, w *wants) {
	if p.Lease != 0 {
		w.lease(s, p.Lease)
	}
	if p.readsValue() {
		w.values = append(w.values, p.Key)
	}
}

func (d *DeleteRequest) ahead(_ *Store, w *wants) {
	if d.PrevKV && single(d.End) {
		w.values = append(w.values, d.Key)
	}
}

func (m *leaseGrant) ahead(s *Store, w *wants) {
	w.lease(s, m.id)
	w.fence(s, m.fence)
}

func (m *leaseRevoke) ahead(s *Store, w *wants) {
	w.lease(s, m.id)
	w.fence(s, m.fence)
}

func (compaction) ahead(s *Store, w *wants) { w.rows = append(w.rows, s.compactRow) }

// ahead adds the leases of both branches, and the values that are compared. Which values the operations need depends on
// the path: see txnPath.load.
func (t *TxnRequest) ahead(s *Store, w *wants) {
	for i := range t.Compares {
		if c := &t.Compares[i]; c.Target == CompareValue && single(c.End) {
			w.values = append(w.values, c.Key)
		}
	}
	for _, ops := range [2][]Op{t.Success, t.Failure} {
		for i := range ops {
			switch o := &ops[i]; {
			case o.Put != nil && o.Put.Lease != 0:
				w.lease(s, o.Put.Lease)
			case o.Range != nil && o.Range.Rev != 0:
				w.rows = append(w.rows, s.compactRow)
			case o.Txn != nil:
				o.Txn.ahead(s, w)
			}
		}
	}
}

// readsValue says whether a put needs the value that it replaces.
func (p *PutRequest) readsValue() bool { return p.PrevKV || p.IgnoreValue }

// values calls add for the single keys whose present values the operations on the path need.
func (p *txnPath) values(add func(key []byte)) {
	nested := p.nested
	for i := range p.ops {
		switch o := &p.ops[i]; {
		case o.Range != nil && single(o.Range.End) && o.Range.Rev <= 0 && o.Range.values():
			add(o.Range.Key)
		case o.Put != nil && o.Put.readsValue():
			add(o.Put.Key)
		case o.Delete != nil && o.Delete.PrevKV && single(o.Delete.End):
			add(o.Delete.Key)
		case o.Txn != nil:
			nested[0].values(add)
			nested = nested[1:]
		}
	}
}

// load reads the values that the operations on the path need, all at once.
func (p *txnPath) load(ctx context.Context, g *group) error {
	var keys [][]byte
	p.values(func(key []byte) { keys = append(keys, key) })
	return g.loadCounted(ctx, affordable(g.unread(keys)))
}

// load reads the head and, in parallel, the rows that the requests certainly need. Then it reads the values and, if the
// log holds copies, also those that may be replaced.
func (g *group) load(ctx context.Context, reqs []*request) error {
	head := g.s.scanHead(ctx, g.txn) // under way while the rows are read
	live := g.scanLive(ctx, reqs)
	var w wants
	for _, r := range reqs {
		w.add(g.s, r.m)
	}
	var buckets engine.Iterator
	switch f := g.s.Features(); {
	case g.s.fenced(f):
		buckets = g.s.scanChange(ctx, g.txn)
	case f.Has(FeatureCounts):
		w.rows = append(w.rows, g.s.bucketsRow)
	}
	if g.s.Features().Has(FeatureAuth) {
		w.rows = append(w.rows, g.s.authRow)
	}
	loaded, err := g.readAhead(ctx, &w)
	rev, features, headErr := g.s.parseHead(g.txn, head)
	g.head, g.rev, g.features = rev, rev, features
	if err = errors.Join(err, headErr, g.loadLive(live)); err != nil {
		if buckets != nil {
			err = errors.Join(err, buckets.Close())
		}
		return err
	}
	if err := errors.Join(g.loadBuckets(ctx, buckets), g.loadAuth(ctx)); err != nil {
		return err
	}
	if g.apart() { // a replaced value stays where it is
		loaded = g.unread(w.values)
	}
	return g.loadAhead(ctx, loaded)
}

// loadView is load for a transaction that only reads, at a head that is known.
func (g *group) loadView(ctx context.Context, t *TxnRequest) error {
	var w wants
	w.add(g.s, t)
	if _, err := g.readAhead(ctx, &w); err != nil {
		return err
	}
	return g.loadAhead(ctx, g.unread(w.values))
}

// loadAhead reads values before it is certain that they are needed, as far as that is affordable. If data is damaged,
// each request finds out by itself whether it needs it.
func (g *group) loadAhead(ctx context.Context, states []*keyState) error {
	if err := g.loadValues(ctx, affordable(states)); !isDamage(err) {
		return err
	}
	return nil
}

// unread returns the states of those keys that live and whose values have not been read, each once.
func (g *group) unread(keys [][]byte) (states []*keyState) {
	if len(keys) == 0 {
		return nil
	}
	seen := make(map[*keyState]bool, len(keys))
	for _, key := range keys {
		if st := g.states[string(key)]; st != nil && st.live && !st.has && !seen[st] {
			seen[st] = true
			states = append(states, st)
		}
	}
	return states
}

// readAhead reads the records of keys that the group has not met, and other rows, all at once. It returns the states
// that it has added. If data is damaged it adds nothing: each request then reads for itself.
func (g *group) readAhead(ctx context.Context, w *wants) ([]*keyState, error) {
	added, err := g.readStates(ctx, w.keys, w.rows)
	if isDamage(err) {
		return nil, nil
	}
	return added, err
}

// loadStates reads the records of keys that the group has not met.
func (g *group) loadStates(ctx context.Context, keys [][]byte) error {
	_, err := g.readStates(ctx, keys, nil)
	return err
}

// readStates is loadStates that also reads other rows, for row. It returns the states that it has added. The keys must
// not be changed any more.
func (g *group) readStates(ctx context.Context, keys, others [][]byte) ([]*keyState, error) {
	added := make([]*keyState, 0, len(keys))
	rows := make([][]byte, 0, len(keys)+len(others))
	for _, key := range keys {
		if _, ok := g.states[string(key)]; ok {
			continue
		}
		st := g.newState(key)
		g.states[string(key)] = st
		added = append(added, st)
		rows = append(rows, g.idxRow(key))
	}
	rows = append(rows, others...)
	if len(rows) == 0 {
		return nil, nil
	}
	values, err := g.txn.GetMany(ctx, rows)
	for i := 0; i < len(added) && err == nil; i++ {
		err = added[i].init(values[i], g.s.refs)
	}
	if err != nil {
		for _, st := range added { // the group may go on, and must not think that these keys do not exist
			delete(g.states, string(st.key))
		}
		return nil, storeErr(err)
	}
	for i, row := range others {
		if g.ahead == nil {
			g.ahead = make(map[string][]byte, len(others))
		}
		g.ahead[string(row)] = values[len(added)+i]
	}
	return added, nil
}

// row returns a row that belongs to no key.
func (g *group) row(ctx context.Context, row []byte) ([]byte, error) {
	if value, ok := g.ahead[string(row)]; ok {
		return value, nil
	}
	value, err := g.txn.Get(ctx, row)
	return value, storeErr(err)
}
