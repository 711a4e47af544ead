package join

import (
	"context"
	"fmt"

	"github.com/headwaterdb/headwater/libs/engine"
)

// member is a small transaction that waits for others, and goes with them. It is its own engine.Pending.
type member struct {
	flow    *flow
	d       *domain
	txn     engine.Txn // the engine's, which it has read in; the batch may fork it until done is closed
	rec     *record
	version uint64 // that it has read at
	known   uint64 // the newest commit of its domain that it is sure to have seen
	bytes   int
	reads   int

	batch *batch // nil: it waits, or goes alone; the Store's mutex guards it, and left
	left  bool   // nobody waits for it any more

	done  chan struct{} // closed when the others are set
	alone bool          // it is to be committed alone
	stamp engine.Stamp
	err   error
}

// batch is a joined transaction.
type batch struct {
	s       *Store
	members []*member
	waited  int // members that somebody waits for
	ctx     context.Context
	cancel  context.CancelFunc
}

func newBatch(s *Store, members []*member) *batch {
	b := &batch{s: s, members: members, waited: len(members)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for _, m := range members {
		m.batch = b
	}
	return b
}

// goAlone has m commit by itself. The Store's mutex is held.
func (m *member) goAlone() {
	m.alone = true
	close(m.done)
}

// run commits the transaction and tells its members.
func (b *batch) run() {
	defer b.cancel()
	st, err, sent := b.commit()
	b.s.over(b, verdictOf(err, sent), st, err)
}

// commit commits the members as one; sent says that the commit was started: before that nothing has happened, whatever
// the error.
func (b *batch) commit() (st engine.Stamp, err error, sent bool) {
	oldest := b.members[0]
	for _, m := range b.members {
		if m.version < oldest.version {
			oldest = m
		}
	}
	f, ok := oldest.txn.(engine.Forker)
	if !ok {
		return st, fmt.Errorf("join: %T cannot be forked", oldest.txn), false
	}
	t, err := f.Fork(b.ctx)
	if err != nil {
		return st, err, false
	}
	for _, m := range b.members {
		m.rec.conflicts(t)
		m.rec.replay(t)
	}
	p, err := t.Commit(b.ctx)
	if err != nil {
		t.Discard()
		return st, err, false
	}
	st, err = p.Wait(b.ctx)
	return st, err, true
}

// verdict is what the outcome of a joined transaction means for its members.
type verdict int

const (
	committed verdict = iota
	apart             // nothing has happened: each commits alone
	open              // the error is each member's: it finds out by itself
	suspect           // the same, and one of them may be to blame
)

// verdictOf returns the verdict of an error. Only what the engine's contract calls a definite no is tried again here.
func verdictOf(err error, sent bool) verdict {
	switch class := engine.ClassOf(err); {
	case err == nil:
		return committed
	case !sent, class.Rerun(), class.Refusal():
		return apart
	case class == engine.UnknownOutcome, class == engine.Unavailable, class == engine.Closed, class == engine.Ended:
		return open
	}
	return suspect
}

// over tells the members of a joined transaction that has ended.
func (s *Store) over(b *batch, v verdict, st engine.Stamp, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line.small--
	switch v {
	case committed:
		s.stats.Joined.Add(1)
		s.stats.Members.Add(int64(len(b.members)))
	case apart:
		s.stats.Apart.Add(1)
	case suspect:
		err = fmt.Errorf("%w: %w", engine.ErrUnknownOutcome, err)
	case open:
	}
	for _, m := range b.members {
		m.stamp, m.err, m.alone = st, err, v == apart
		switch v {
		case committed:
			m.flow.penalty = 0
			s.knows(m.flow, st)
		case suspect:
			m.flow.blame()
		case apart, open:
		}
		if m.left {
			s.forget(m)
			m.txn.Discard()
		}
		close(m.done)
	}
	s.send()
}

// forget counts the end of a member. mu is held.
func (s *Store) forget(m *member) {
	s.line.any--
	m.flow.any--
}

// Wait implements engine.Pending.
func (m *member) Wait(ctx context.Context) (engine.Stamp, error) {
	select {
	case <-m.done:
	case <-ctx.Done():
		if m.leave() {
			return engine.Stamp{}, ctx.Err()
		}
	}
	s := m.d.s
	s.mu.Lock()
	s.forget(m)
	s.mu.Unlock()
	if m.alone {
		return m.commitAlone(ctx)
	}
	m.txn.Discard()
	if m.err != nil {
		return engine.Stamp{}, m.err
	}
	return m.stamp, nil
}

// leave ends the wait for m; false if it is over.
func (m *member) leave() bool {
	s := m.d.s
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-m.done:
		return false
	default:
	}
	if s.line.leave(m) {
		s.forget(m)
		m.txn.Discard()
		return true
	}
	m.left = true // over discards its transaction, which the batch may be reading
	if m.batch.waited--; m.batch.waited == 0 {
		m.batch.cancel()
	}
	return true
}

// commitAlone commits m by itself, at its own read version.
func (m *member) commitAlone(ctx context.Context) (engine.Stamp, error) {
	m.rec.replay(m.txn)
	p, err := m.d.commit(ctx, m.txn, true)
	if err != nil {
		m.txn.Discard()
	} else {
		var st engine.Stamp
		if st, err = p.Wait(ctx); err == nil {
			return st, nil
		}
	}
	if class := engine.ClassOf(err); m.batch != nil && (class.Rerun() || class.Refusal()) {
		s := m.d.s
		s.mu.Lock()
		m.flow.blame()
		s.mu.Unlock()
	}
	return engine.Stamp{}, err
}
