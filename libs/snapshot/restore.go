package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// RestoreOptions say what a restore makes of a file.
type RestoreOptions struct {
	// Bump moves the revision on by so much, so that clients never see one go back. It needs MarkCompacted.
	Bump int64
	// MarkCompacted compacts at the revision that Bump makes: watches from before it are cancelled.
	MarkCompacted bool
	// WithoutAuth leaves users and roles out: everybody may do everything then.
	WithoutAuth bool
	// Prefix is put before every row.
	Prefix []byte
	// Follow, if set, has the keyspace go on following what the file is a snapshot of (mvcc.Store.Replay). It cannot be
	// bumped then.
	Follow *mvcc.Follow
	// Progress, if set, is told now and then how many versions and tombstones have been read.
	Progress func(revisions int64)
}

// Restored is what a restore has made.
type Restored struct{ Revision, Compact int64 }

var (
	errBump   = errors.New("to bump the revision, mark it as compacted, and the other way round")
	errFollow = errors.New("who follows another keyspace has its revisions: they cannot be bumped")
)

// Check says whether the options can be.
func (o *RestoreOptions) Check() error {
	if o.MarkCompacted != (o.Bump > 0) || o.Bump < 0 {
		return errBump
	}
	if o.Follow != nil && o.MarkCompacted {
		return errFollow
	}
	return nil
}

// Restore makes a keyspace of a file, in a store without rows below its prefix. It counts when Restore has returned
// nil: until then the store holds no keyspace. Errors: ErrDamaged, those of the store, the context's.
func Restore(ctx context.Context, r *Reader, eng engine.Store, o RestoreOptions) (Restored, error) {
	done := Restored{Revision: r.Revision, Compact: r.Compact}
	superseded := r.Superseded
	if err := o.Check(); err != nil {
		return done, err
	}
	if o.MarkCompacted {
		if r.Revision > math.MaxInt64-o.Bump {
			return done, fmt.Errorf("revision %d cannot be moved on by %d", r.Revision, o.Bump)
		}
		done.Revision += o.Bump
		done.Compact, superseded = done.Revision, true
	}
	into := mvcc.ImportOptions{Prefix: o.Prefix, Compact: done.Compact, Superseded: superseded, Follow: o.Follow}
	a, err := r.Auth(ctx)
	if err == nil && !o.WithoutAuth {
		into.AuthNumber, into.AuthRows, err = a.rows()
	}
	if err != nil {
		return done, err
	}
	im, err := mvcc.NewImport(ctx, eng, into)
	if err != nil {
		return done, err
	}
	n := int64(0)
	err = r.Events(ctx, func(rev int64, ev *revlog.Event) error {
		if n++; n%progressEvery == 0 && o.Progress != nil {
			o.Progress(n)
		}
		return im.Add(ctx, rev, ev)
	})
	if err != nil {
		return done, err
	}
	var leases []mvcc.ImportLease
	err = r.Leases(ctx, func(l mvcc.ImportLease) error {
		leases = append(leases, l)
		return nil
	})
	if err != nil {
		return done, err
	}
	if o.Progress != nil {
		o.Progress(n)
	}
	return done, im.Finish(ctx, done.Revision, leases)
}

// progressEvery is after how many versions progress is told.
const progressEvery = 10_000
