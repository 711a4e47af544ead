package mvcc

import (
	"context"
	"errors"
	"fmt"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Bounds of one call of Replay.
const (
	// ReplayRevisionsMax bounds the revisions.
	ReplayRevisionsMax = 1024
	// replayRevBytes is what a revision counts besides its keys and values.
	replayRevBytes = 64
)

// ReplayRevision is what one revision of the source has changed, in the source's order. An event of a put has the key,
// value, create and version numbers and lease, that of a deletion only the key. A revision changes each key once.
type ReplayRevision struct {
	Rev int64
	// After is the revision of the source that comes before, or any between the two: the source has made none there.
	// 0: Rev-1.
	After  int64
	Events []revlog.Event
}

// Replay carries out revisions of the source of a keyspace that follows, in order, under their own numbers; those that
// are there already are left out, so that it may be called again when the outcome was unknown, and by several. It
// returns the last revision that is there afterwards. All of them happen, or none, except that one which does not fit
// into a transaction of the engine is written in several, alone: after an error it may have been begun, and then it is
// the next one that Replay accepts. What is replayed is held against what is there: creation and version of each key
// have to follow from it. Leases need not be there. Errors: ErrNotFollowing, ErrGap, ErrDiverged, ErrAhead, ErrNoSpace,
// ErrTooLarge (several do not fit together), ErrUnfollowable, ErrUnfinished (another goes on with a large one),
// ErrUnavailable (outcome unknown), the context's.
func (s *Store) Replay(ctx context.Context, revs []ReplayRevision) (head int64, err error) {
	if len(revs) == 0 || len(revs) > ReplayRevisionsMax {
		return 0, fmt.Errorf("mvcc: %d revisions to replay, need 1 to %d", len(revs), ReplayRevisionsMax)
	}
	m := &replay{revs: revs}
	if err := m.fits(s); err != nil {
		return 0, err
	}
	if err := s.admitGiven(ctx, revs[len(revs)-1].Rev); err != nil {
		return 0, err
	}
	if m.tooLarge(s) {
		return s.replayParts(ctx, &revs[0])
	}
	res, err := s.submit(ctx, m, m.bytes())
	switch {
	case errors.Is(err, ErrUnfinished):
		return s.replayOn(ctx, revs)
	case errors.Is(err, ErrTooLarge) && len(revs) == 1 && s.stepwise():
		return s.replayParts(ctx, &revs[0])
	}
	if err != nil {
		if errors.Is(err, ErrDiverged) || errors.Is(err, ErrGap) { // otherwise the group may still be writing why
			err = fmt.Errorf("%w: %s", err, m.why)
		}
		return 0, err
	}
	return res.Rev, nil
}

// replayOn is Replay where a revision has been begun in parts: it is the first of those that are not there.
func (s *Store) replayOn(ctx context.Context, revs []ReplayRevision) (head int64, err error) {
	for i := range revs {
		p := &parts{s: s, r: &revs[i]}
		began, err := p.look(ctx)
		if err == nil && p.head >= revs[i].Rev {
			head = p.head
			continue
		}
		if err == nil && began {
			head, err = s.replayParts(ctx, &revs[i])
			i++
		}
		if err != nil || i == len(revs) {
			return head, err
		}
		return s.Replay(ctx, revs[i:])
	}
	return head, nil
}

// replay is the mutation of Replay.
type replay struct {
	revs []ReplayRevision
	why  string // why it refuses; the caller reads it when the request has ended
}

func (m *replay) each(visit func(ev *revlog.Event)) {
	for i := range m.revs {
		for j := range m.revs[i].Events {
			visit(&m.revs[i].Events[j])
		}
	}
}

// fits refuses what could not be replaced or deleted later.
func (m *replay) fits(s *Store) (err error) {
	m.each(func(ev *revlog.Event) {
		if err == nil && !ev.Delete {
			err = s.storable(ev)
		}
	})
	return err
}

// storable refuses a version that could not be replaced or deleted later. Errors: ErrTooLarge.
func (s *Store) storable(ev *revlog.Event) error {
	if s.putFits(&PutRequest{Key: ev.KV.Key, Value: ev.KV.Value}) {
		return nil
	}
	const shown = 64
	return fmt.Errorf("%w: key %.*q of %d bytes with a value of %d", ErrTooLarge, shown, ev.KV.Key, len(ev.KV.Key),
		len(ev.KV.Value))
}

func (m *replay) keys(add func([]byte)) {
	m.each(func(ev *revlog.Event) { add(ev.KV.Key) })
}

func (m *replay) grows() bool {
	puts := false
	m.each(func(ev *revlog.Event) { puts = puts || !ev.Delete })
	return puts
}

// proves implements mutation: what is replayed goes on from the head, which commits do not prove.
func (m *replay) proves() bool { return false }

func (m *replay) bytes() int {
	n := len(m.revs) * replayRevBytes
	m.each(func(ev *revlog.Event) { n += len(ev.KV.Key) + len(ev.KV.Value) })
	return n
}

func (m *replay) cost(s *Store) (n int64) {
	m.each(func(ev *revlog.Event) {
		if !ev.Delete {
			n += s.putCost(&PutRequest{Key: ev.KV.Key, Value: ev.KV.Value})
		}
	})
	return n
}

// run implements mutation. It checks everything before it changes anything.
func (m *replay) run(ctx context.Context, g *group, res *Result) error {
	last, left := g.last(), m.revs
	for len(left) > 0 && left[0].Rev <= last {
		left = left[1:]
	}
	res.Rev = g.rev
	if len(left) == 0 {
		return nil
	}
	if len(g.entries)+len(left) > entriesMax {
		return errNextGroup
	}
	given, err := m.given(g, left)
	if err == nil {
		err = m.check(ctx, g, left, last)
	}
	if err != nil {
		return err
	}
	defer func() { g.given = 0 }()
	for i := range left {
		if g.end(); given {
			g.given = left[i].Rev
		}
		if err := m.apply(ctx, g, left[i].Events); err != nil {
			return err
		}
	}
	res.Rev = g.rev
	return nil
}

// entriesMax bounds the entries of a group with given revisions: two bytes count them.
const entriesMax = 1 << 16

// given tells whether the revisions have to be given to their rows: they are not what the commit makes. Where others
// write the keyspace too, the group then conflicts with all that move the head.
func (m *replay) given(g *group, left []ReplayRevision) (bool, error) {
	if g.s.limits.Dense {
		first := len(g.entries) == 0
		made := !first && g.entries[0].rev < 0
		gaps := left[len(left)-1].Rev-g.last() != int64(len(left))
		most := g.s.limits.MaxStamps
		switch {
		case gaps && made, !gaps && !first && !made, most > 0 && len(g.entries)+len(left) > most:
			if first {
				return false, engine.ErrTooLarge
			}
			return false, errNextGroup
		case !gaps:
			return false, nil
		}
		if _, ok := g.txn.(engine.StampSkipper); !ok {
			return false, errors.New("mvcc: the engine cannot go on behind a revision")
		}
		return true, nil
	}
	if txn, writes := g.txn.(engine.Txn); writes {
		head := g.s.headRow
		txn.AddReadConflict(head, append(head[:len(head):len(head)], 0))
	}
	return true, nil
}

// replayed is a key as the revisions before have left it.
type replayed struct {
	live            bool
	create, version int64
	at              int64 // the last revision that changes it
}

// check finds out whether the revisions follow from one another, and from what there is.
func (m *replay) check(ctx context.Context, g *group, left []ReplayRevision, last int64) error {
	keys := map[string]*replayed{}
	for i := range left {
		r := &left[i]
		after := r.After
		if after == 0 {
			after = r.Rev - 1
		}
		if r.Rev <= last || after > last || len(r.Events) == 0 {
			m.why = fmt.Sprintf("%d, with %d events, comes after %d at the source, and after %d here", r.Rev,
				len(r.Events), after, last)
			return ErrGap
		}
		last = r.Rev
		for j := range r.Events {
			ev := &r.Events[j]
			k := keys[string(ev.KV.Key)]
			if k == nil {
				st, err := g.state(ctx, ev.KV.Key)
				if err != nil {
					return err
				}
				k = &replayed{live: st.live, version: st.rec.version, create: g.num(st.rec.create)}
				keys[string(ev.KV.Key)] = k
			}
			if m.why = k.take(r.Rev, ev); m.why != "" {
				return ErrDiverged
			}
		}
	}
	return nil
}

// take applies an event to the key, or returns why that is not possible.
func (k *replayed) take(rev int64, ev *revlog.Event) (why string) {
	switch {
	case len(ev.KV.Key) == 0:
		return fmt.Sprintf("revision %d changes a key without a name", rev)
	case k.at == rev:
		return fmt.Sprintf("revision %d changes %q twice", rev, ev.KV.Key)
	case ev.Delete && !k.live:
		return fmt.Sprintf("revision %d deletes %q, which does not exist", rev, ev.KV.Key)
	}
	k.at = rev
	if ev.Delete {
		k.live, k.create, k.version = false, 0, 0
		return ""
	}
	if k.version++; !k.live {
		k.live, k.create, k.version = true, rev, 1
	}
	if ev.KV.Create != k.create || ev.KV.Version != k.version {
		return fmt.Sprintf(
			"revision %d makes version %d of %q, created at %d; here it would be version %d, created at %d", rev,
			ev.KV.Version, ev.KV.Key, ev.KV.Create, k.version, k.create,
		)
	}
	return ""
}

// apply makes the changes of one revision, after check.
func (m *replay) apply(ctx context.Context, g *group, events []revlog.Event) error {
	for i := range events {
		ev := &events[i]
		st, err := g.state(ctx, ev.KV.Key)
		if err != nil {
			return err
		}
		if ev.Delete {
			_, err = g.del(ctx, st)
		} else {
			_, err = g.put(ctx, st, ev.KV.Value, ev.KV.Lease)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
