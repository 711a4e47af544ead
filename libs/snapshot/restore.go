package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"

	"github.com/headwaterdb/headwater/libs/alarm"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// RestoreOptions say how a restore makes a keyspace.
type RestoreOptions struct {
	// Bump is added to the revision, so that clients never see it go back. It needs MarkCompacted.
	Bump int64
	// MarkCompacted compacts at the revision that Bump makes. Watches from before it are then cancelled.
	MarkCompacted bool
	// WithoutAuth leaves out users and roles. Then everybody may do everything.
	WithoutAuth bool
	// Prefix begins the key of every row.
	Prefix []byte
	// Follow, if set, lets the keyspace follow the source of the file (mvcc.Store.Replay). Then the revision cannot be
	// bumped.
	Follow *mvcc.Follow
	// Beside are the rows beside the keyspace, where many are served by several processes.
	Beside *mvcc.Beside
	// Progress, if set, is told now and then how many versions and tombstones have been read.
	Progress func(revisions int64)
}

// Restored is the result of a restore.
type Restored struct{ Revision, Compact int64 }

var (
	errBump   = errors.New("bumping the revision and marking it as compacted need each other")
	errFollow = errors.New("a keyspace that follows another one has its revisions, which cannot be bumped")
)

// Check checks whether the options are possible.
func (o *RestoreOptions) Check() error {
	if o.MarkCompacted != (o.Bump > 0) || o.Bump < 0 {
		return errBump
	}
	if o.Follow != nil && o.MarkCompacted {
		return errFollow
	}
	return nil
}

// Content is what a keyspace is restored from.
type Content struct {
	// Revision is the keyspace's revision. Compact is its compact revision, or -1.
	Revision, Compact int64
	// Superseded says that there may be versions below the compact revision that were replaced before it.
	Superseded bool
	Auth       Auth
	Leases     []mvcc.ImportLease
	Alarms     Alarms
	// Sum is a digest of all of it; without one a restore that is interrupted is never gone on with.
	Sum []byte
	// Events visits versions and tombstones in the order of their revisions, none above Revision.
	Events func(ctx context.Context, visit func(rev int64, ev *revlog.Event) error) error
}

// ErrLog: a file has only the changes since a revision.
var ErrLog = errors.New("not a whole snapshot but the log of a backup, which is restored together with the backup")

// Content returns the content of the file. It may be used while the Reader is open. Errors: ErrLog, ErrDamaged, the
// context's.
func (r *Reader) Content(ctx context.Context) (c Content, err error) {
	if r.Since > 0 {
		return c, ErrLog
	}
	c = Content{
		Revision: r.Revision, Compact: r.Compact, Superseded: r.Superseded, Sum: r.sum, Events: r.Events,
	}
	return c, r.State(ctx, &c)
}

// State reads what makes no revision into c: users and roles, leases and alarms. Errors: as Events.
func (r *Reader) State(ctx context.Context, c *Content) (err error) {
	if c.Auth, err = r.Auth(ctx); err != nil {
		return err
	}
	if c.Alarms, err = r.Alarms(ctx); err != nil {
		return err
	}
	c.Leases = nil
	return r.Leases(ctx, func(l mvcc.ImportLease) error {
		c.Leases = append(c.Leases, l)
		return nil
	})
}

// Restore makes a keyspace of a file, in a store without rows below its prefix, or with those of a restore of the same
// file, with the same options, that was interrupted: where others write the store too it goes on with that. It counts
// when Restore has returned nil: until then the store holds no keyspace. Errors: ErrLog, ErrDamaged, those of
// mvcc.NewImport and of Import's methods, the context's.
func Restore(ctx context.Context, r *Reader, eng engine.Store, o RestoreOptions) (Restored, error) {
	c, err := r.Content(ctx)
	if err != nil {
		return Restored{Revision: r.Revision, Compact: r.Compact}, err
	}
	return RestoreContent(ctx, &c, eng, o)
}

// RestoreContent is Restore for content that need not come from one file. Revisions have gaps: if nothing was written
// at the content's revision, the keyspace is as it was then, and has the revision of the last write before.
func RestoreContent(ctx context.Context, c *Content, eng engine.Store, o RestoreOptions) (Restored, error) {
	done := Restored{Revision: c.Revision, Compact: c.Compact}
	superseded := c.Superseded
	if err := o.Check(); err != nil {
		return done, err
	}
	if o.MarkCompacted {
		if c.Revision > math.MaxInt64-o.Bump {
			return done, fmt.Errorf("revision %d cannot be raised by %d", c.Revision, o.Bump)
		}
		done.Revision += o.Bump
		done.Compact, superseded = done.Revision, true
	}
	into := mvcc.ImportOptions{
		Prefix: o.Prefix, Compact: done.Compact, Superseded: superseded, Follow: o.Follow,
		Head: done.Revision, Beside: o.Beside, Source: o.digest(c.Sum),
	}
	for _, a := range c.Alarms {
		if o.Follow != nil { // they are about the source's disk, and would refuse writes that the source accepts again
			break
		}
		into.Alarms = append(into.Alarms, alarm.Name(a))
	}
	if !o.WithoutAuth {
		var err error
		if into.AuthNumber, into.AuthRows, err = c.Auth.rows(); err != nil {
			return done, err
		}
	}
	im, err := mvcc.NewImport(ctx, eng, into)
	if err != nil {
		return done, err
	}
	defer im.Abort()
	n, last := int64(0), int64(0)
	err = c.Events(ctx, func(rev int64, ev *revlog.Event) error {
		last = rev
		if n++; n%progressEvery == 0 && o.Progress != nil {
			o.Progress(n)
		}
		return im.Add(ctx, rev, ev)
	})
	if err != nil {
		return done, err
	}
	if o.Progress != nil {
		o.Progress(n)
	}
	// What follows a source goes on from that source's revision, and what is marked as compacted has the one
	// that it was raised to.
	if last > 0 && o.Follow == nil && !o.MarkCompacted {
		done.Revision = min(done.Revision, max(last, c.Compact))
	}
	return done, im.Finish(ctx, done.Revision, c.Leases)
}

// digest is what a restore makes the keyspace of; nil: it cannot be told.
func (o *RestoreOptions) digest(sum []byte) []byte {
	if len(sum) == 0 {
		return nil
	}
	d := sha256.New()
	d.Write(sum)
	follows := uint64(0)
	if o.Follow != nil {
		follows = o.Follow.Source
	}
	fmt.Fprintf(d, "|%d|%t|%t|%t|%d", o.Bump, o.MarkCompacted, o.WithoutAuth, o.Follow != nil, follows)
	return d.Sum(nil)
}

// progressEvery is after how many versions progress is told.
const progressEvery = 10_000
