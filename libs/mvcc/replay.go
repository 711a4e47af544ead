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
	Rev    int64
	Events []revlog.Event
}

// Replay applies revisions of the source to a keyspace that follows it, in order and under their own numbers. All of
// them are applied, or none. Revisions that are there already are left out, so a caller may repeat Replay after an
// unknown outcome, and several callers may use it. It returns the last revision that is there afterwards. Replay checks
// each key's create and version numbers against the keyspace. Leases need not exist. Errors: ErrNotFollowing, ErrGap,
// ErrDiverged, ErrNoSpace, ErrTooLarge, ErrUnavailable (outcome unknown), the context's.
func (s *Store) Replay(ctx context.Context, revs []ReplayRevision) (head int64, err error) {
	if !s.limits.Dense {
		return 0, errors.New("mvcc: only on an engine without gaps between revisions can a keyspace follow another")
	}
	if len(revs) == 0 || len(revs) > ReplayRevisionsMax {
		return 0, fmt.Errorf("mvcc: %d revisions to replay, need 1 to %d", len(revs), ReplayRevisionsMax)
	}
	m := &replay{revs: revs}
	res, err := s.submit(ctx, m, m.bytes())
	if err != nil {
		if errors.Is(err, ErrDiverged) || errors.Is(err, ErrGap) { // otherwise the group may still be writing why
			err = fmt.Errorf("%w: %s", err, m.why)
		}
		return 0, err
	}
	return res.Rev, nil
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

func (m *replay) keys(add func([]byte)) {
	m.each(func(ev *revlog.Event) { add(ev.KV.Key) })
}

func (m *replay) grows() bool {
	puts := false
	m.each(func(ev *revlog.Event) { puts = puts || !ev.Delete })
	return puts
}

func (m *replay) proves() bool { return true }

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
	next := g.head + 1 + int64(len(g.entries))
	left := m.revs
	for len(left) > 0 && left[0].Rev < next {
		left = left[1:]
	}
	res.Rev = g.rev
	if len(left) == 0 {
		return nil
	}
	if most := g.s.limits.MaxStamps; most > 0 && len(g.entries)+len(left) > most {
		if len(g.entries) == 0 {
			return engine.ErrTooLarge
		}
		return errNextGroup
	}
	if err := m.check(ctx, g, left, next); err != nil {
		return err
	}
	for i := range left {
		g.end()
		if err := m.apply(ctx, g, left[i].Events); err != nil {
			return err
		}
	}
	res.Rev = g.rev
	return nil
}

// replayed is a key as the earlier revisions have left it.
type replayed struct {
	live            bool
	create, version int64
	at              int64 // the last revision that changes it
}

// check returns an error unless the revisions follow from one another and from the keyspace.
func (m *replay) check(ctx context.Context, g *group, left []ReplayRevision, next int64) error {
	keys := map[string]*replayed{}
	for i := range left {
		r := &left[i]
		if r.Rev != next+int64(i) || len(r.Events) == 0 {
			m.why = fmt.Sprintf("revision %d, with %d events, comes after %d", r.Rev, len(r.Events), next+int64(i)-1)
			return ErrGap
		}
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
