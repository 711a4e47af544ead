package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// CatchUp makes the copy, if there is none, and follows the source up to its present revision. Errors: as Follow.
func (m *Migration) CatchUp(ctx context.Context) error {
	if err := m.Prepare(ctx); err != nil {
		return err
	}
	_, head, err := m.Source.Head(ctx)
	if err != nil {
		return err
	}
	return m.followOn(ctx, func(rev int64) bool { return rev >= head })
}

// Run makes the copy, if there is none. It follows the source until ctx ends, and compares both sides in full in the
// meantime. It returns nil if somebody else has cut over. Errors: DiffersError, ErrNotFollowing (the keyspace existed
// and was not a copy), those of either side, the context's.
func (m *Migration) Run(ctx context.Context) error {
	if err := m.CatchUp(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	compared := make(chan struct{})
	go func() {
		defer close(compared)
		if err := m.compareOn(ctx); ctx.Err() == nil { // it ends only with an error
			cancel(err)
		}
	}()
	err := m.followOn(ctx, nil)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(err)
	<-compared
	if errors.Is(err, ErrNotFollowing) {
		m.note("the keyspace has been cut over and takes writes")
		return nil
	}
	return err
}

// compareEvery is the time between two comparisons of the changed keys. It is short, so that little is left for the
// cut-over.
const compareEvery = 10 * time.Second

// compareOn copies users and roles, and compares: first all keys, then again and again those that have changed. It
// outlasts passing errors.
func (m *Migration) compareOn(ctx context.Context) error {
	for all := true; ; {
		err := m.compareOnce(ctx, all)
		wait := compareEvery
		switch {
		case err == nil:
			all = false
		case errors.Is(err, rpctypes.ErrCompacted): // the source has compacted: compare a later revision
		case passes(err), status.Code(err) == codes.NotFound: // a restart, or a copy that is being made again
			wait = pause
		default:
			return err
		}
		if err := retry.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// compareOnce makes one of these comparisons. If nothing has been compared yet, as after a new copy, it compares all
// keys.
func (m *Migration) compareOnce(ctx context.Context, all bool) error {
	st, err := m.Target.followed(ctx)
	if err != nil {
		return err
	}
	if !st.GetFollows() {
		return ErrNotFollowing
	}
	if all || st.GetCompared() == 0 {
		rev, keys, err := m.takeAndCompare(ctx)
		if err == nil {
			m.note("compared %d keys at revision %d: equal", keys, rev)
		}
		return err
	}
	if st.GetRevision() == st.GetCompared() {
		return nil
	}
	_, err = m.compareChanged(ctx, st.GetCompared(), st.GetRevision())
	if err == nil {
		err = m.compared(ctx, st.GetRevision())
	}
	return err
}

func (m *Migration) takeAndCompare(ctx context.Context) (rev, keys int64, err error) {
	taken, err := m.TakeAuth(ctx)
	if err != nil {
		return 0, 0, err
	}
	if taken {
		m.note("users and roles were copied again")
	}
	rev, keys, err = m.Compare(ctx)
	if errors.Is(err, context.Canceled) {
		return 0, 0, err
	}
	if err != nil {
		err = fmt.Errorf("comparing: %w", err)
	}
	return rev, keys, err
}
