package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// attemptsMax bounds how often a cut-over starts again because the source was written in the meantime. A lease that
// ends at the source is such a write.
const attemptsMax = 10

// CutOver is the result of a cut-over.
type CutOver struct {
	Revision int64
	Keys     int64 // compared
	Full     bool  // all keys were compared, because that had not been done before
	Leases   int
	Auth     bool // users and roles were copied again
	Took     time.Duration
}

// LateError: the source was written after the last look before a cut-over. The cut-over has been done. The keyspace
// does not have what the source has written after revision Taken.
type LateError struct{ Taken, Source int64 }

// Error implements error.
func (e *LateError) Error() string {
	return fmt.Sprintf("the source has gone on to revision %d after the cut-over at revision %d, and the keyspace "+
		"does not have what came between: a writer has not been stopped, or a lease has ended there", e.Source, e.Taken)
}

// CutOver lets the keyspace take writes, once it has reached the source's revision. The source's writers must be
// stopped before. It compares the keys that have changed since both sides were compared in full, or all keys if they
// were not. Errors: ErrBusy, CompactedError, ErrNotFollowing, DiffersError, those of either side; LateError if it was
// done nevertheless.
func (m *Migration) CutOver(ctx context.Context) (done CutOver, err error) {
	begin := time.Now()
	for range attemptsMax {
		done, err = m.tryCutOver(ctx)
		if !errors.Is(err, ErrBusy) {
			break
		}
	}
	done.Took = time.Since(begin)
	if err == nil {
		err = m.late(ctx, done.Revision)
	}
	return done, err
}

// late looks at the source once more after the keyspace takes writes. Errors: LateError.
func (m *Migration) late(ctx context.Context, taken int64) error {
	_, now, err := m.Source.Head(ctx)
	if err != nil {
		m.note("the source does not answer after the cut-over, so it is unknown whether it was written: %v", err)
		return nil
	}
	if now > taken {
		return &LateError{taken, now}
	}
	return nil
}

func (m *Migration) tryCutOver(ctx context.Context) (done CutOver, err error) {
	m.report(Progress{Phase: CuttingOver})
	if done.Auth, err = m.TakeAuth(ctx); err != nil {
		return done, err
	}
	_, head, err := m.Source.Head(ctx)
	if err != nil {
		return done, err
	}
	if err := m.Follow(ctx, func(rev int64) bool { return rev >= head }); err != nil {
		return done, err
	}
	leases, err := m.Source.leases(ctx)
	if err != nil {
		return done, fmt.Errorf("the source's leases: %w", err)
	}
	st, err := m.Target.followed(ctx)
	if err != nil {
		return done, err
	}
	if done.Full = st.GetCompared() == 0; done.Full {
		done.Keys, err = m.compareAll(ctx, head)
	} else {
		done.Keys, err = m.compareChanged(ctx, st.GetCompared(), head)
	}
	if err != nil {
		return done, err
	}
	done.Revision, done.Leases = head, len(leases)
	return done, m.end(ctx, head, leases)
}

// end ends following if the source still has the given revision and the same users.
func (m *Migration) end(ctx context.Context, head int64, leases []*adminv1.Lease) error {
	_, now, err := m.Source.Head(ctx)
	if err != nil {
		return err
	}
	st, err := m.Target.followed(ctx)
	if err != nil {
		return err
	}
	auth, _, err := m.sameAuth(ctx, st)
	if err != nil {
		return err
	}
	if !auth {
		return fmt.Errorf("%w (its users or roles have changed)", ErrBusy)
	}
	if now != head || st.GetRevision() != head {
		return fmt.Errorf("%w (it went on from revision %d to %d)", ErrBusy, head, max(now, st.GetRevision()))
	}
	_, err = m.Target.c.CutOver(ctx, &adminv1.CutOverRequest{
		Keyspace: m.Target.name, Revision: head, Leases: leases,
	})
	return err
}
