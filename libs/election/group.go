package election

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// Row is a row of the store.
type Row struct{ Key, Value []byte }

// GroupOptions configure a Group. Prefix is required; the zero value of the others means their default.
type GroupOptions struct {
	// Prefix begins the keys of all elections of the group. Each beat reads all rows under it, so there must be few.
	Prefix []byte
	// Beside is called at each beat with the rows under Prefix that belong to no election, in order. They are read
	// without a conflict. Beside may change rows in the transaction of the beat, which is tried again if it fails. It
	// returns the time after which it wants to be called again at the latest; 0: at the next beat. It is called from
	// Run's goroutine and must be quick.
	Beside func(rows []Row, txn engine.Txn) time.Duration
	// Beat, if set, is called when a beat begins, so that other work can be done while the process is awake. It must be
	// quick, and it may be called from any goroutine.
	Beat func()

	// Now reads the clock of all candidates of the group. Default: time.Now.
	Now    func() time.Time
	Logger *slog.Logger // default: none
}

// Group is the candidates of a process that share their transactions. In one transaction per beat it reads the rows of
// all elections, shows them to the candidates that campaign, and renews the terms of those that lead. The time between
// two beats is the shortest Options.Renew of its candidates. Run must go on until the Run of its last candidate has
// returned. The methods may be called from any goroutine.
type Group struct {
	store engine.Store
	o     GroupOptions
	span  engine.Range
	hurry chan struct{}

	mu         sync.Mutex
	candidates []*Candidate
	terms      map[*Term]context.CancelCauseFunc // which ends the ctx of its lead
	seen       *sighting                         // the newest; nil: none yet
	seq        uint64                            // of seen
	news       chan struct{}                     // closed when seen or failed changes
	failed     error                             // why Run has ended
}

// sighting is the rows of all elections as they were at one moment.
type sighting struct {
	seq  uint64
	rows map[*Candidate]rows
}

// NewGroup returns a group for Options.Group. Run starts it.
func NewGroup(store engine.Store, o GroupOptions) (*Group, error) {
	if len(o.Prefix) == 0 {
		return nil, errors.New("election: no prefix")
	}
	g := newGroup(store, o)
	g.span = engine.Range{Begin: o.Prefix, End: prefixEnd(o.Prefix), NoConflict: true}
	return g, nil
}

// alone returns a group for a candidate that has none.
func alone(c *Candidate) *Group {
	g := newGroup(c.store, GroupOptions{Beat: c.o.Beat, Now: c.o.Now, Logger: c.o.Logger})
	g.span = engine.Range{Begin: c.keys.ballot, End: after(c.keys.renewal), NoConflict: true}
	return g
}

func newGroup(store engine.Store, o GroupOptions) *Group {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Group{
		store: store,
		o:     o,
		hurry: make(chan struct{}, 1),
		terms: map[*Term]context.CancelCauseFunc{},
		news:  make(chan struct{}),
	}
}

// after is the first key behind key.
func after(key []byte) []byte { return append(key[:len(key):len(key)], 0) }

// prefixEnd is the first key behind all with a prefix; nil: there is none.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for n := len(end); n > 0; n-- {
		if end[n-1]++; end[n-1] != 0 {
			return end[:n]
		}
	}
	return nil
}

func (g *Group) add(c *Candidate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.candidates = append(g.candidates, c)
}

// Hurry makes the next beat begin at once.
func (g *Group) Hurry() {
	select {
	case g.hurry <- struct{}{}:
	default:
	}
}

// Run reads and renews until ctx ends, and then returns nil. Other errors: engine.ErrClosed, after which no candidate
// of the group goes on. If the store is unavailable, Run waits. Only one call of Run may be active.
func (g *Group) Run(ctx context.Context) error {
	failures := 0
	for ctx.Err() == nil {
		if g.o.Beat != nil {
			g.o.Beat()
		}
		again, err := g.beat(ctx)
		switch {
		case err == nil:
			failures = 0
			g.rest(ctx, g.due(again))
			continue
		case fatal(err):
			g.end(err)
			return err
		case failures == 0 && ctx.Err() == nil && engine.ClassOf(err) != engine.Conflict:
			g.o.Logger.Warn("elections are delayed", "key", g.span.Begin, "error", err)
		}
		g.pause(ctx, failures)
		failures++
	}
	return nil
}

// pause waits after the n-th failure in a row, n >= 0, but not beyond the end of the first term that ends.
func (g *Group) pause(ctx context.Context, n int) {
	p := retries(g.interval() * renewDivisor)
	_ = retry.Sleep(ctx, min(p.Pause(n), g.left())) // who waits looks at ctx afterwards
}

// rest waits until the next beat.
func (g *Group) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-g.hurry:
	case <-ctx.Done():
	}
}

// interval is the time between two beats.
func (g *Group) interval() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := DefaultTTL / renewDivisor
	for i, c := range g.candidates {
		if i == 0 || c.o.Renew < d {
			d = c.o.Renew
		}
	}
	return d
}

// due returns the time until the next beat. A renewal is due Renew after the last one began.
func (g *Group) due(again time.Duration) time.Duration {
	d := g.interval()
	if again > 0 {
		d = min(d, again)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for t := range g.terms {
		d = min(d, t.c.o.Renew-(t.c.now()-t.tenure.begun))
	}
	return max(d, 0)
}

// left returns the time until the first term ends, and at most the candidates' time to live.
func (g *Group) left() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := time.Duration(0)
	for _, c := range g.candidates {
		d = max(d, c.o.TTL)
	}
	for t := range g.terms {
		d = min(d, t.left())
	}
	return max(d, 0)
}

// hold renews a term from now on. It calls lost when the term is over.
func (g *Group) hold(t *Term, lost context.CancelCauseFunc) {
	late := t.c.now()-t.tenure.begun >= t.c.o.Renew
	g.mu.Lock()
	g.terms[t] = lost
	g.mu.Unlock()
	if late {
		g.Hurry()
	}
}

// drop ends the renewals of a term.
func (g *Group) drop(t *Term, why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if lost := g.terms[t]; lost != nil {
		lost(why)
		delete(g.terms, t)
	}
}

// end tells all candidates that the group reads nothing any more.
func (g *Group) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for t, lost := range g.terms {
		lost(errors.Join(ErrDeposed, err))
		delete(g.terms, t)
	}
	g.failed = err
	g.tell()
}

// tell wakes those who wait for news. The lock is held.
func (g *Group) tell() {
	close(g.news)
	g.news = make(chan struct{})
}

// sees returns the newest sighting if it is newer than seq, or else a channel that is closed when there is one.
func (g *Group) sees(seq uint64) (*sighting, <-chan struct{}, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.failed != nil:
		return nil, nil, g.failed
	case g.seen != nil && g.seen.seq > seq:
		return g.seen, nil, nil
	}
	return nil, g.news, nil
}

// sight waits for a sighting newer than seq. Errors: ctx's, those of Run.
func (g *Group) sight(ctx context.Context, seq uint64) (*sighting, error) {
	for {
		s, news, err := g.sees(seq)
		if s != nil || err != nil {
			return s, err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// saw stores what a beat has read as the newest sighting.
func (g *Group) saw(read map[*Candidate]rows) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seq++
	g.seen = &sighting{g.seq, read}
	g.tell()
}

// newest is the number of the newest sighting.
func (g *Group) newest() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seq
}

// holding returns the terms to renew, without those that have ended.
func (g *Group) holding() (terms []*Term) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for t, lost := range g.terms {
		if !t.Holds() {
			lost(ErrDeposed)
			delete(g.terms, t)
			continue
		}
		terms = append(terms, t)
	}
	return terms
}

// beat reads and renews once.
func (g *Group) beat(ctx context.Context) (again time.Duration, err error) {
	terms := g.holding()
	ctx, cancel := context.WithTimeout(ctx, g.left())
	defer cancel()
	if len(terms) == 0 && g.o.Beside == nil {
		return 0, g.look(ctx)
	}
	begun := g.o.Now()
	txn, err := g.store.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer txn.Discard()
	read, others, err := g.read(ctx, txn)
	if err != nil {
		return 0, err
	}
	g.saw(read)
	a := g.renew(txn, terms, read, begun)
	if g.o.Beside != nil {
		again = g.o.Beside(others, txn)
	} else if len(a) == 0 {
		return 0, nil
	}
	err = commit(ctx, txn)
	g.renewed(a, err)
	return again, err
}

// look reads without renewing anything.
func (g *Group) look(ctx context.Context) error {
	snap, err := g.store.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snap.Close()
	read, _, err := g.read(ctx, snap)
	if err == nil {
		g.saw(read)
	}
	return err
}

// read reads the rows of all elections, and the other rows under the prefix. The copies outlive r.
func (g *Group) read(ctx context.Context, r engine.Reader) (_ map[*Candidate]rows, others []Row, err error) {
	g.mu.Lock()
	candidates := g.candidates
	g.mu.Unlock()
	values := map[string][]byte{}
	it := r.Scan(ctx, g.span)
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.Next() {
		o := Row{bytes.Clone(it.Key()), append([]byte{}, it.Value()...)} // a row that is there is not nil
		values[string(o.Key)] = o.Value
		others = append(others, o)
	}
	if err := it.Err(); err != nil {
		return nil, nil, err
	}
	read := make(map[*Candidate]rows, len(candidates))
	ours := make(map[string]bool, 2*len(candidates))
	for _, c := range candidates {
		ballot, renewal := string(c.keys.ballot), string(c.keys.renewal)
		read[c] = rows{values[ballot], values[renewal]}
		ours[ballot], ours[renewal] = true, true
	}
	n := 0
	for _, o := range others {
		if !ours[string(o.Key)] {
			others[n] = o
			n++
		}
	}
	return read, others[:n], nil
}

// attempt is one attempt to renew one term.
type attempt struct {
	t     *Term
	begun instant
	// before is when the previous attempt began, if its outcome was unknown and it is now known to have been committed;
	// 0: none.
	before instant
}

// renew writes the renewals of the terms that still own their rows. The attempt began at begun. The other terms are
// over.
func (g *Group) renew(txn engine.Txn, terms []*Term, read map[*Candidate]rows, begun time.Time) (made []attempt) {
	for _, t := range terms {
		r := read[t.c]
		if !bytes.Equal(r.ballot, t.row) {
			g.drop(t, ErrDeposed)
			continue
		}
		a := attempt{t: t, begun: begun.Sub(t.c.start)}
		g.mu.Lock()
		if t.count > 0 && bytes.Equal(r.renewal, renewalRow(t.ballot, t.count)) {
			a.before = t.tried
		}
		t.count++
		t.tried = a.begun
		row := renewalRow(t.ballot, t.count)
		g.mu.Unlock()
		// Both rows conflict: with a later claim, and with an earlier attempt that is still on its way.
		txn.AddReadConflict(t.c.keys.ballot, after(t.c.keys.renewal))
		txn.Set(t.c.keys.renewal, row)
		made = append(made, a)
	}
	return made
}

// renewed accounts for the attempts of a transaction that has ended with err.
func (g *Group) renewed(made []attempt, err error) {
	for _, a := range made {
		begun := a.begun
		if err != nil {
			if begun = a.before; begun == 0 {
				continue
			}
		}
		g.mu.Lock()
		a.t.renewals++
		goesOn := a.t.extend(begun)
		g.mu.Unlock()
		if !goesOn {
			g.drop(a.t, ErrDeposed)
		}
	}
}
