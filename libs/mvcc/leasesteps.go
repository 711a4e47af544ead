package mvcc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A lease whose keys cannot be deleted in one transaction ends in steps (FeatureLeaseSteps). The first step marks its
// row as ending. From then on requests do not find the lease, but its id cannot be granted. Each further step deletes,
// in one revision, as many of its keys as fit, and the last one removes the row. Only an engine with bounded
// transactions needs this.

// LeaseEnding is the time to live that Leases reports for a lease that is ending.
const LeaseEnding = math.MinInt64

const (
	// deletedBytesMin is the least that the deletion of an attached key adds to a transaction: it clears one row or two
	// (rowWriter.detachesAll), adds one to the history, and adds to the log entry.
	deletedBytesMin = 128
	// stepKeysMax bounds the keys of one step, and with them the time that its evaluation takes.
	stepKeysMax = 8192
	// stepShare sets how much of a transaction a step fills, by the count of deletes: 1/stepShare.
	stepShare = 2
)

// leaseEndingMark is the ninth byte of the row of a lease that is ending.
const leaseEndingMark = 1

// appendLease appends the value of a lease's row.
func appendLease(b []byte, ttl int64, ending bool) []byte {
	b = appendRev(b, ttl)
	if ending {
		b = append(b, leaseEndingMark)
	}
	return b
}

// parseLease reads the value of a lease's row.
func parseLease(row []byte) (ttl int64, ending bool, err error) {
	if len(row) == leaseRowBytes+1 && row[leaseRowBytes] == leaseEndingMark {
		row, ending = row[:leaseRowBytes], true
	}
	if len(row) != leaseRowBytes {
		return 0, false, ErrCorrupt
	}
	return int64(binary.BigEndian.Uint64(row)), ending, nil
}

// errNoSteps is ErrTooLarge for a lease that could end in steps if the feature were active.
var errNoSteps = fmt.Errorf(
	"%w: the keys of the lease do not fit in one transaction, and the feature lease-steps is not activated",
	ErrTooLarge)

// stepwise reports whether a transaction of the engine may be too small for the keys of a lease.
func (s *Store) stepwise() bool { return !s.limits.Dense && s.limits.TxnBytes > 0 }

// endLater marks a lease as ending, after a revoke that was too large.
func (s *Store) endLater(ctx context.Context, id int64, fence *Fence) (int64, error) {
	if !s.stepwise() {
		return 0, ErrTooLarge
	}
	if rev, err := s.submitRev(ctx, &leaseEnd{id: id, fence: fence}); err != nil {
		return rev, err
	}
	return 0, ErrLeaseEnding
}

// LeaseRevokeStep deletes, in one revision, some of the keys of a lease that is ending. With the last of them it
// removes the lease's row; done is then true and rev is the keyspace's revision. Keys that have been put on another
// lease, or on none, stay. fence is as in LeaseRevoke. Errors: ErrLeaseNotFound (also if the lease is not ending),
// ErrFenced, and those of Put.
func (s *Store) LeaseRevokeStep(ctx context.Context, id int64, fence *Fence) (rev int64, done bool, err error) {
	room := s.limits.TxnBytes / stepShare
	for {
		m := &leaseStep{id: id, fence: fence, room: room}
		rev, err = s.submitRev(ctx, m)
		switch {
		case err == nil:
			return rev, m.last, nil
		case !errors.Is(err, ErrTooLarge) || room <= deletedBytesMin:
			return 0, false, err
		}
		room /= 2 // in the end a step has a single key, and the put of that key was a larger transaction
	}
}

// leaseEnd marks a lease as ending. It makes no revision.
type leaseEnd struct {
	id    int64
	fence *Fence
}

func (*leaseEnd) keys(func([]byte)) {}
func (*leaseEnd) grows() bool       { return false }
func (*leaseEnd) proves() bool      { return false }

func (m *leaseEnd) ahead(s *Store, w *wants) {
	w.lease(s, m.id)
	w.fence(s, m.fence)
}

func (m *leaseEnd) run(ctx context.Context, g *group, res *Result) error {
	if err := g.checkFence(ctx, m.fence); err != nil {
		return err
	}
	l, err := g.lease(ctx, m.id)
	if err != nil {
		return err
	}
	switch {
	case l.ending:
	case !l.live:
		return ErrLeaseNotFound
	case !g.features.Has(FeatureLeaseSteps):
		return errNoSteps
	default:
		if err := g.onLease(ctx, m.id); err != nil {
			return err
		}
		l.live, l.ending, l.dirty = false, true, true
	}
	res.Rev = g.rev
	return nil
}

// leaseStep is one step of the end of a lease.
type leaseStep struct {
	id    int64
	fence *Fence
	room  int  // bytes that the step may add to the transaction, as counted by deletes
	last  bool // set by run: no key is left
}

func (*leaseStep) keys(func([]byte)) {}
func (*leaseStep) grows() bool       { return false }
func (*leaseStep) proves() bool      { return false }

func (m *leaseStep) ahead(s *Store, w *wants) {
	w.lease(s, m.id)
	w.fence(s, m.fence)
}

func (m *leaseStep) run(ctx context.Context, g *group, res *Result) error {
	if err := g.checkFence(ctx, m.fence); err != nil {
		return err
	}
	l, err := g.lease(ctx, m.id)
	if err != nil {
		return err
	}
	if !l.ending {
		return ErrLeaseNotFound
	}
	attached, all, err := g.attached(ctx, m.id, min(stepKeysMax, 1+m.room/deletedBytesMin))
	if err != nil {
		return err
	}
	if n := g.fitting(attached, m.room); n < len(attached) {
		attached, all = attached[:n], false
	}
	switch {
	case len(attached) > 0 || all:
	case len(g.entries) > 0: // earlier requests of the group have taken them off the lease
		return errNextGroup
	default:
		return fmt.Errorf("%w: rows attach keys to lease %d, but the keys are not on it", ErrCorrupt, m.id)
	}
	if err := g.detach(ctx, attached); err != nil {
		return err
	}
	if m.last = all; all {
		l.ending, l.dirty = false, true
	}
	res.Rev = g.rev
	return nil
}

// fitting returns how many of the first keys can be deleted with that much room; it is at least one.
func (g *group) fitting(attached []*keyState, room int) int {
	var d deletes
	for i, st := range attached {
		if d.add(g, st); d.bytes() > room && i > 0 {
			return i
		}
	}
	return len(attached)
}

// detach deletes keys of a lease.
func (g *group) detach(ctx context.Context, attached []*keyState) error {
	if !g.apart() {
		if err := g.loadValues(ctx, attached); err != nil {
			return err
		}
	}
	for _, st := range attached {
		if _, err := g.del(ctx, st); err != nil {
			return err
		}
	}
	return nil
}
