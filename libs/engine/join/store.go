package join

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// waitMax is how long a small transaction waits for another to end before it goes with those that wait too.
const waitMax = 10 * time.Millisecond

// Store is an engine whose domains commit together. Its own transactions, which are of no domain, go to the engine as
// they are.
type Store struct {
	engine.Store
	limits engine.Limits

	patience time.Duration // waitMax
	// singles has a transaction that waited in vain for others go as a joined one all the same; only tests set it.
	singles bool

	mu      sync.Mutex
	line    line
	timer   *time.Timer // runs while some wait; nil: none has waited yet
	closed  bool
	batches sync.WaitGroup

	stats Stats
}

// Stats counts since the Store was made.
type Stats struct {
	Joined  atomic.Int64 // transactions that were committed for several domains
	Members atomic.Int64 // domains' transactions in them
	Apart   atomic.Int64 // joined transactions that were refused, so that their members were committed alone
}

var _ engine.Domains = (*Store)(nil)

// New returns s as a Store. The caller closes both, the Store first: it does not own s.
func New(s engine.Store) *Store { return &Store{Store: s, limits: s.Limits(), patience: waitMax} }

// Stats returns the Store's counters.
func (s *Store) Stats() *Stats { return &s.stats }

// Close waits for joined transactions under way. Later ones go alone. The engine stays open.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.send()
	s.mu.Unlock()
	s.batches.Wait()
	return nil
}

// Domain implements engine.Domains. An engine that numbers densely or is pipelined makes the commits of many domains
// durable together anyway, and is given as it is.
func (s *Store) Domain(prefix []byte) engine.Store {
	in := engine.Domain(s.Store, prefix)
	if s.limits.Dense || s.limits.Pipelined {
		return in
	}
	return &domain{Store: in, s: s, flow: flow{name: string(prefix)}}
}

// domain is the store as one of its domains sees it. The mutex of the Store guards its flow.
type domain struct {
	engine.Store
	s    *Store
	flow flow
}

var (
	_ engine.Domains           = (*domain)(nil)
	_ engine.RecentBeginner    = (*domain)(nil)
	_ engine.RecentSnapshotter = (*domain)(nil)
)

// Domain implements engine.Domains.
func (d *domain) Domain(prefix []byte) engine.Store {
	if string(prefix) == d.flow.name {
		return d
	}
	return d.s.Domain(prefix)
}

// Close implements engine.Store: it does nothing.
func (d *domain) Close() error { return nil }

// Begin implements engine.Store.
func (d *domain) Begin(ctx context.Context) (engine.Txn, error) {
	known, recorded := d.begun()
	t, err := d.Store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return d.wrap(t, known, recorded), nil
}

// BeginRecent implements engine.RecentBeginner, if the engine does.
func (d *domain) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	r, ok := d.Store.(engine.RecentBeginner)
	if !ok {
		return nil, false, nil
	}
	known, recorded := d.begun()
	t, ok, err := r.BeginRecent(ctx)
	if !ok || err != nil {
		return nil, false, err
	}
	return d.wrap(t, known, recorded), true, nil
}

// RecentSnapshot implements engine.RecentSnapshotter: on an engine that does not, a Snapshot.
func (d *domain) RecentSnapshot(ctx context.Context) (engine.Snapshot, error) {
	if r, ok := d.Store.(engine.RecentSnapshotter); ok {
		return r.RecentSnapshot(ctx)
	}
	return d.Snapshot(ctx)
}

// RangeSize estimates the bytes of the rows k, begin <= k < end; a nil end means to the end of the store. 0 where the
// engine does not know. Errors: the engine's.
func (d *domain) RangeSize(ctx context.Context, begin, end []byte) (int64, error) {
	if r, ok := d.Store.(interface {
		RangeSize(ctx context.Context, begin, end []byte) (int64, error)
	}); ok {
		return r.RangeSize(ctx, begin, end)
	}
	return 0, nil
}

// begun says which commit of the domain a transaction that begins now is sure to see, and whether it is to be recorded:
// others are busy.
func (d *domain) begun() (known uint64, recorded bool) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return d.flow.newest, d.s.line.busy(&d.flow)
}

func (d *domain) wrap(t engine.Txn, known uint64, recorded bool) *txn {
	x := &txn{Txn: t, d: d, known: known}
	if _, ok := t.(engine.Forker); ok && recorded {
		x.rec = new(record)
	}
	return x
}

// commit commits a transaction alone; small says that it could have been joined, and counts as one of the slots.
func (d *domain) commit(ctx context.Context, t engine.Txn, small bool) (engine.Pending, error) {
	d.begins(small)
	p, err := t.Commit(ctx)
	if err != nil {
		d.ends(small, engine.Stamp{})
		return nil, err
	}
	return &single{Pending: p, d: d, small: small}, nil
}

func (d *domain) begins(small bool) {
	s := d.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line.any++
	d.flow.any++
	if small {
		s.line.small++
		d.flow.small++
	}
}

// ends counts the end of a transaction that went alone. A small one's end sends those that wait: as long as some wait,
// there is one.
func (d *domain) ends(small bool, st engine.Stamp) {
	s := d.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line.any--
	d.flow.any--
	s.knows(&d.flow, st)
	if small {
		s.line.small--
		d.flow.small--
		s.send()
	}
}

// knows notes a commit of a domain. Only on an engine whose stamps are versions can it be compared with those of
// readers. mu is held.
func (s *Store) knows(f *flow, st engine.Stamp) {
	if s.limits.Versionstamps {
		f.newest = max(f.newest, st.Version)
	}
}

// single is a commit that went alone.
type single struct {
	engine.Pending
	d     *domain
	small bool
}

// Wait implements engine.Pending.
func (p *single) Wait(ctx context.Context) (engine.Stamp, error) {
	st, err := p.Pending.Wait(ctx)
	p.d.ends(p.small, st)
	return st, err
}

// wait has m wait for others, if it is to.
func (s *Store) wait(m *member) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.line.mayWait(m.flow) {
		return false
	}
	s.line.any++
	m.flow.any++
	s.line.waiting = append(s.line.waiting, m)
	if len(s.line.waiting) == 1 {
		if s.timer == nil {
			s.timer = time.AfterFunc(s.patience, s.overdue)
		} else {
			s.timer.Reset(s.patience)
		}
	}
	return true
}

// overdue sends those that wait although nothing has ended: what is under way may take long.
func (s *Store) overdue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send()
}

// send has all go that wait. mu is held.
func (s *Store) send() {
	if len(s.line.waiting) == 0 {
		return
	}
	s.timer.Stop()
	for batch := s.line.take(); len(batch) > 0; batch = s.line.take() {
		if len(batch) == 1 && !s.singles {
			batch[0].goAlone()
			continue
		}
		b := newBatch(s, batch)
		s.line.small++
		s.batches.Go(b.run)
	}
}
