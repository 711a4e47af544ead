package mvcc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Limits of a Joint.
const (
	// jointRequests and jointBytes bound what may wait in a Store that commits with others. A Store in which more
	// waits serves itself: its groups are worth a transaction of their own, and the others need not wait for them.
	jointRequests = 16
	jointBytes    = 16 << 10
	// jointStores bounds the Stores in one transaction.
	jointStores = 128
	// A Store that serves itself stops doing so when it has taken at most calmRequests between two sweeps, calmSweeps
	// times in a row.
	calmRequests = 8
	calmSweeps   = 4
)

// Joint commits for the Stores of one engine that have little to write each. What they have waiting when a transaction
// has become durable goes together, in the next: one group of each Store, evaluated as its lane would, with the stamps
// of the Store's own domain. So a thousand Stores that write now and then cost the transactions, syncs and wake-ups of
// one that writes as much.
//
// A Store is served either by its Joint or by its own lane, never by both at a time. Its lane takes over where more
// waits than a few small requests, and for whatever is not plain: requests that visit much, a commit that is refused,
// damaged data. Nothing has happened then, and the requests are again the first of their queue.
//
// The methods may be called from any goroutine.
type Joint struct {
	eng   engine.Store
	turn  JointTurn
	ctx   context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup
	stats JointStats
	spare []*group // run's, to be used again

	// mu guards what follows, and the joint fields of Stores. A queue's mutex may be held when it is taken.
	mu       sync.Mutex
	wake     sync.Cond
	open     int                 // Stores
	ready    []*Store            // that have requests, in order of arrival
	held     map[*Store]struct{} // that it serves: they are ready, or have a group
	giveUp   context.CancelFunc  // ends the attempt to commit what next has returned
	begun    bool                // run runs
	sweeping bool                // sweep runs
	closed   bool
}

// JointTurn is the Turn of a Joint, which stands for as many as its weight says.
type JointTurn interface {
	Turn
	SetWeight(weight uint32)
}

// JointStats counts since the Joint was made.
type JointStats struct {
	Commits atomic.Int64 // transactions
	Groups  atomic.Int64 // groups of Stores in them
	Alone   atomic.Int64 // groups that were left to their Stores' own lanes
}

// jointState is what a Joint has of a Store.
type jointState struct {
	open   bool
	flying *member // of the transaction that is waited for; nil: none
}

// NewJoint returns a Joint for Stores on eng, or nil if Stores gain nothing there: eng does not number each domain by
// itself, or is not pipelined. turn, if set, is the Joint's among the Groups of its Stores. The caller keeps the
// ownership of eng.
func NewJoint(eng engine.Store, turn JointTurn) *Joint {
	if _, ok := eng.(engine.Domains); !ok || !eng.Limits().Dense || !eng.Limits().Pipelined {
		return nil
	}
	j := &Joint{eng: eng, turn: turn, held: make(map[*Store]struct{})}
	j.ctx, j.stop = context.WithCancel(context.Background())
	j.wake.L = &j.mu
	return j
}

// Stats returns the Joint's counters.
func (j *Joint) Stats() *JointStats { return &j.stats }

// Close ends the Joint's goroutines. Its Stores must have been closed before. An error means that the engine keeps one
// of them.
func (j *Joint) Close() error {
	j.mu.Lock()
	j.closed = true
	j.wake.Broadcast()
	j.mu.Unlock()
	j.stop()
	ended := make(chan struct{})
	go func() {
		j.tasks.Wait()
		close(ended)
	}()
	t := time.NewTimer(closeGiveUp)
	defer t.Stop()
	select {
	case <-ended:
		return nil
	case <-t.C:
		return fmt.Errorf("%w: a joint commit has not ended", ErrUnavailable)
	}
}

// opened counts a Store until it is left.
func (j *Joint) opened(s *Store) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s.joint.open = true
	j.open++
}

func (j *Joint) left(s *Store) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s.joint.open {
		s.joint.open = false
		j.open--
	}
}

// several says whether there is another Store.
func (j *Joint) several() bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.open > 1
}

// take begins to serve a Store that has got a request and is not served. false: it has to serve itself. The mutex of
// its queue is held.
func (j *Joint) take(s *Store) bool {
	if j == nil || s.follow.is.Load() {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed || j.open < 2 {
		return false
	}
	s.wg.Add(1) // the Store is not closed, so nobody waits yet
	j.held[s] = struct{}{}
	j.push(s)
	if !j.sweeping {
		j.sweeping = true
		j.tasks.Go(j.sweep)
	}
	if !j.begun {
		j.begun = true
		j.tasks.Go(j.run)
	}
	return true
}

// push makes a Store ready. mu is held.
func (j *Joint) push(s *Store) {
	j.ready = append(j.ready, s)
	j.wake.Signal()
}

// run makes one transaction after the other.
func (j *Joint) run() {
	var stores []*Store
	for {
		ctx, giveUp := context.WithCancel(j.ctx)
		if stores = j.next(stores, giveUp); len(stores) > 0 {
			j.serve(ctx, stores)
		}
		giveUp()
		if len(stores) == 0 {
			return
		}
	}
}

// next waits for Stores that are ready and puts them into the memory of others; none: the Joint is closed. giveUp ends
// the attempt to commit what they have.
func (j *Joint) next(into []*Store, giveUp context.CancelFunc) []*Store {
	clear(into)
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.ready) == 0 && !j.closed {
		j.wake.Wait()
	}
	n := min(len(j.ready), jointStores)
	into = append(into[:0], j.ready[:n]...)
	rest := copy(j.ready, j.ready[n:])
	clear(j.ready[rest:])
	j.ready = j.ready[:rest]
	j.giveUp = giveUp
	return into
}

// serve makes a transaction of what waits in the Stores. If ctx ends before its commit, their lanes do it.
func (j *Joint) serve(ctx context.Context, stores []*Store) {
	var ms []*member
	for _, s := range stores {
		reqs, many := s.queue.few()
		reqs = dropCancelled(reqs)
		if many || len(reqs) == 0 {
			j.release(s)
			continue
		}
		ms = append(ms, &member{s: s, flight: flight{reqs: reqs}})
	}
	if len(ms) == 0 {
		return
	}
	if err := j.enter(ctx, ms); err != nil {
		j.alone(ms)
		return
	}
	ms, p := j.commit(ctx, ms)
	if j.turn != nil {
		j.turn.Leave()
	}
	if p != nil {
		j.land(ms, p)
	}
}

// enter waits for the turn of a transaction, which has the weights of all its Stores.
func (j *Joint) enter(ctx context.Context, ms []*member) error {
	if j.turn == nil {
		return nil
	}
	var weight uint32
	var cost int64
	for _, m := range ms {
		cost += costOf(m.reqs)
		w := uint32(1)
		if f, ok := m.s.o.Groups.(interface{ Weight() uint32 }); ok {
			w = f.Weight()
		}
		weight += w
	}
	j.turn.SetWeight(weight)
	_, err := j.turn.Enter(ctx, cost, cost)
	return err
}

// member is a Store's group in a joint transaction.
type member struct {
	flight
	s    *Store
	rest []*request // for the next group
}

// commit evaluates the groups and commits them. It returns those that the transaction has, and leaves the others to
// their Stores. nil: it has none.
func (j *Joint) commit(ctx context.Context, ms []*member) ([]*member, engine.Pending) {
	txn, err := j.eng.Begin(ctx)
	if err != nil {
		j.alone(ms)
		return nil, nil
	}
	var reqs []*request
	kept, others := ms[:0:0], []*member(nil)
	defer func() { j.alone(others) }() // after the commit, which would conflict with what their lanes do
	for _, m := range ms {
		if !m.evaluate(ctx, txn, j.takeSpare()) {
			others = append(others, m)
			continue
		}
		kept = append(kept, m)
		reqs = append(reqs, m.reqs...)
	}
	if len(kept) == 0 {
		txn.Discard()
		return nil, nil
	}
	for _, m := range kept {
		m.build(txn)
	}
	markSpace(txn, reqs)
	p, err := txn.Commit(ctx)
	if err != nil {
		txn.Discard()
		j.alone(kept)
		return nil, nil
	}
	j.stats.Commits.Add(1)
	j.stats.Groups.Add(int64(len(kept)))
	for _, m := range kept {
		m.s.keys.Add(m.g.born) // in the order of commits, because the next group is judged by it
		m.s.usage.Groups.Add(1)
		m.s.queue.stats.sent(m.reqs, m.laps)
	}
	return kept, p
}

// takeSpare returns a group whose memory can be used again, or nil.
func (j *Joint) takeSpare() (g *group) {
	if n := len(j.spare); n > 0 {
		g, j.spare[n-1] = j.spare[n-1], nil
		j.spare = j.spare[:n-1]
	}
	return g
}

// evaluate evaluates the group, with the memory of another, as its lane would. false: the lane must do it.
func (m *member) evaluate(ctx context.Context, txn engine.Txn, spare *group) bool {
	m.laps.begun = m.s.queue.now()
	m.g = m.s.newGroupOf(spare, txn, m.reqs)
	m.g.allow, m.g.heldMax = allowance{m.s.o.LightRows, errHeavy}, groupHeld(m.s.limits)
	n, err := m.g.evaluate(ctx, m.reqs)
	if err != nil || m.g.keysExact || m.g.features.Has(FeatureFollows) {
		return false
	}
	m.reqs, m.rest = m.reqs[:n:n], m.reqs[n:]
	return true
}

// build adds what the group changes to the transaction.
func (m *member) build(txn engine.Txn) {
	if l := m.s.lanes[0]; m.g.changed() {
		l.seq++
		m.g.build(engine.Part(txn, m.s.o.Prefix), l.row, l.seq)
	}
	m.laps.sent = m.s.queue.now()
}

// land waits for a transaction and answers its requests.
func (j *Joint) land(ms []*member, p engine.Pending) {
	j.mu.Lock()
	for _, m := range ms {
		m.s.joint.flying = m
	}
	j.mu.Unlock()
	for _, m := range ms {
		if m.s.work.Err() != nil { // the Store was given up before its group flew
			j.abandon(m.s)
		}
	}
	first, err := p.Wait(j.ctx)
	for _, m := range ms {
		if !j.landed(m) {
			continue
		}
		l := m.s.lanes[0]
		m.laps.known = m.s.queue.now()
		m.s.queue.stats.Commit.Observe(1, m.laps.known-m.laps.sent)
		if err != nil { // the engine has failed
			m.s.keys.Add(-m.g.born)
			fail(m.reqs, storeErr(err))
		} else {
			l.answer(&m.flight, engine.FirstOf(p, first, m.s.o.Prefix))
		}
		if g := m.g.forget(); g != nil {
			j.spare = append(j.spare, g)
		}
		if len(m.rest) > 0 {
			m.s.queue.putBack(m.rest)
		}
		j.release(m.s)
	}
}

// landed reports whether the requests of a group are still to be answered.
func (j *Joint) landed(m *member) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if m.s.joint.flying != m {
		return false
	}
	m.s.joint.flying = nil
	return true
}

// alone leaves groups to the lanes of their Stores.
func (j *Joint) alone(ms []*member) {
	for _, m := range ms {
		j.stats.Alone.Add(1)
		m.s.queue.putBack(append(m.reqs, m.rest...))
		j.leave(m.s)
	}
}

// release decides what becomes of a Store whose group has ended, or that has none.
func (j *Joint) release(s *Store) {
	switch s.queue.afterJoint(func() { j.forget(s) }) {
	case nothingWaits:
		s.wg.Done()
	case fewWait:
		j.mu.Lock()
		j.push(s)
		j.mu.Unlock()
		if s.work.Err() != nil {
			j.abandon(s)
		}
	case manyWait:
		j.leave(s)
	}
}

// forget ends the service for a Store.
func (j *Joint) forget(s *Store) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.held, s)
}

// leave leaves a Store to its own lane.
func (j *Joint) leave(s *Store) {
	j.forget(s)
	s.wg.Go(s.serve)
	s.wg.Done()
}

// abandon answers the requests of a Store that nobody waits for any more, because it is being closed and the engine
// does not answer. What waits in its queue goes to its lane, which does the same.
func (j *Joint) abandon(s *Store) {
	j.mu.Lock()
	m := s.joint.flying
	s.joint.flying = nil
	at := slices.Index(j.ready, s)
	if at >= 0 {
		j.ready = slices.Delete(j.ready, at, at+1)
	}
	if _, held := j.held[s]; held && m == nil && at < 0 {
		j.giveUp() // it waits for its turn, or for an engine that takes no commit at present
	}
	j.mu.Unlock()
	if m != nil {
		fail(m.reqs, ErrUnavailable)
		m.s.queue.putBack(m.rest)
	}
	if m != nil || at >= 0 {
		j.leave(s)
	}
}

// sweep ends waits that take too long in Stores that the Joint serves, until it serves none.
func (j *Joint) sweep() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-j.ctx.Done():
			return
		}
		j.mu.Lock()
		stores := slices.Collect(maps.Keys(j.held))
		j.sweeping = len(stores) > 0
		j.mu.Unlock()
		if len(stores) == 0 {
			return
		}
		for _, s := range stores {
			s.queue.sweep()
		}
	}
}
