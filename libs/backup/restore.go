package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

// Plan is a full backup and logs from which a target is restored, and the revision at which the restore ends.
type Plan struct {
	Chain    []Manifest
	Revision int64
}

// Plan chooses the backups for a target. A backup that cannot be read is an error if it might have the target, or if it
// is newer and the target is the newest state (of all, or of a time). Errors: ErrNone, ErrBroken, ErrDamaged, ErrNewer,
// those of the place, the context's.
func (r *Repository) Plan(ctx context.Context, t Target) (p Plan, err error) {
	ms, bad, err := r.List(ctx)
	if err != nil {
		return p, err
	}
	if len(ms)+len(bad) == 0 {
		return p, fmt.Errorf("this place has no backups: %w", ErrNone)
	}
	last := ""
	if p.Chain, p.Revision, err = choose(ms, t); err == nil && t.Revision == 0 {
		last = p.Chain[len(p.Chain)-1].ID
	} else if err == nil {
		return p, nil
	}
	for _, b := range bad { // never restore an older state silently
		if b.Name > last && !t.before(b.Name) {
			err = errors.Join(err, b.Err)
		}
	}
	return p, err
}

// before says whether a backup was taken after the time of the target. The backup's name begins with its time.
func (t *Target) before(name string) bool {
	return !t.Time.IsZero() && name >= t.Time.Add(time.Millisecond).UTC().Format(idTime)
}

// Restore calls into with the content of a plan, which is valid during the call. Users, roles, leases and alarms make
// no revision, so they are restored as they were at the end of the last backup. Leases that ended between the plan's
// revision and that end come from the backup before. If that does not know them either and keys name them, they have a
// second left (mvcc.LeaseGone). The keys of such leases are held in memory. Errors: ErrDamaged, ErrNewer, those of
// keys, of into, of the place, the context's.
func (r *Repository) Restore(
	ctx context.Context, p Plan, into func(ctx context.Context, c *snapshot.Content) error,
) (err error) {
	last, err := r.open(ctx, &p.Chain[len(p.Chain)-1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, last.Close()) }()
	full := &p.Chain[0]
	c := snapshot.Content{Revision: p.Revision, Compact: full.Compact}
	if err := last.State(ctx, &c); err != nil {
		return err
	}
	x := restoring{Repository: r, p: p, first: last, last: last, c: &c}
	if last.Since > 0 {
		if x.first, err = r.open(ctx, full); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, x.first.Close()) }()
	}
	c.Events, c.Superseded = x.events, x.first.Superseded
	return into(ctx, &c)
}

// restoring is one restore.
type restoring struct {
	*Repository
	p           Plan
	first, last *snapshot.Reader
	c           *snapshot.Content
}

// events visits the events of the whole chain in order.
func (x *restoring) events(ctx context.Context, visit func(rev int64, ev *revlog.Event) error) error {
	named := x.naming()
	done := int64(0)
	for i := range x.p.Chain {
		err := x.part(ctx, i, done, func(rev int64, ev *revlog.Event) error {
			named.note(ev)
			return visit(rev, ev)
		})
		if err != nil {
			return err
		}
		done = x.p.Chain[i].Revision
	}
	x.c.Leases = append(x.c.Leases, named.missing(x.c.Leases)...)
	return nil
}

// errEnough ends a visit when the revision of the plan is reached.
var errEnough = errors.New("backup: the revision is reached")

// part visits the events of one backup, without those that the backups before it have.
func (x *restoring) part(
	ctx context.Context, i int, after int64, visit func(rev int64, ev *revlog.Event) error,
) (err error) {
	m, s := &x.p.Chain[i], x.first
	switch {
	case i == len(x.p.Chain)-1:
		s = x.last
	case i > 0:
		if s, err = x.open(ctx, m); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
	}
	if i == len(x.p.Chain)-2 && x.p.Revision < x.last.Revision {
		if err := x.ended(ctx, s); err != nil {
			return err
		}
	}
	err = s.Events(ctx, func(rev int64, ev *revlog.Event) error {
		switch {
		case rev > x.p.Revision:
			return errEnough
		case rev <= after:
			return nil
		}
		return visit(rev, ev)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.Object, err)
	}
	return nil
}

// ended adds the leases of a backup that have ended before the last backup.
func (x *restoring) ended(ctx context.Context, s *snapshot.Reader) error {
	there := map[int64]bool{}
	for _, l := range x.c.Leases {
		there[l.ID] = true
	}
	return s.Leases(ctx, func(l mvcc.ImportLease) error {
		if !there[l.ID] {
			x.c.Leases = append(x.c.Leases, l)
		}
		return nil
	})
}

// naming are the keys that name leases which the last backup does not know. Such a lease has ended since the revision
// at which the restore ends: before the end of that backup, or while it was taken. Its keys must not stay for ever.
type naming struct {
	known map[int64]bool
	lease map[string]int64 // by key
}

// naming returns nil if a whole backup is restored as it is: it has the leases of all its keys. A log has only those
// that its own events name.
func (x *restoring) naming() *naming {
	if x.last.Since == 0 && x.p.Revision >= x.last.Revision {
		return nil
	}
	n := &naming{make(map[int64]bool), make(map[string]int64)}
	for _, l := range x.c.Leases {
		n.known[l.ID] = true
	}
	return n
}

// note follows an event.
func (n *naming) note(ev *revlog.Event) {
	switch {
	case n == nil:
	case !ev.Delete && ev.KV.Lease != 0 && !n.known[ev.KV.Lease]:
		n.lease[string(ev.KV.Key)] = ev.KV.Lease
	case len(n.lease) > 0:
		delete(n.lease, string(ev.KV.Key))
	}
}

// missing returns the leases that keys name now and that are not there, in order.
func (n *naming) missing(there []mvcc.ImportLease) (all []mvcc.ImportLease) {
	if n == nil {
		return nil
	}
	for _, l := range there {
		n.known[l.ID] = true
	}
	for _, id := range slices.Sorted(maps.Values(n.lease)) {
		if !n.known[id] {
			n.known[id] = true
			all = append(all, mvcc.ImportLease{ID: id, TTL: mvcc.LeaseGone})
		}
	}
	return all
}

// Verify reads a backup completely. It checks that the object is what was stored. If the object is not encrypted or
// there are identities, it also checks that everything in it can be read, and returns deep = true. Errors: ErrDamaged,
// ErrBroken, ErrNewer, those of the place, the context's.
func (r *Repository) Verify(ctx context.Context, ms []Manifest, m Manifest) (deep bool, err error) {
	if _, err := chain(ms, m); err != nil {
		return false, err
	}
	if m.Encryption != "" && len(r.keys.Identities) == 0 {
		return false, r.checkObject(ctx, &m)
	}
	s, err := r.open(ctx, &m)
	if err != nil {
		return false, err
	}
	_, err = s.Status(ctx)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%s %w: %w", m.Object, ErrDamaged, err)
	}
	return true, errors.Join(err, s.Close())
}
