package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/backup"
	"github.com/headwaterdb/headwater/libs/snapshot"
	"github.com/headwaterdb/headwater/libs/snapshot/datadir"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

func (c *ctl) backupVerifyCommand() *cobra.Command {
	var p backupPlace
	var newest bool
	var maxAge time.Duration
	cmd := &cobra.Command{
		Use: "verify", Short: "Read all backups in full, and say which cannot be restored", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.open(func(r *backup.Repository) error {
				return c.verifyBackups(cmd.Context(), r, newest, maxAge)
			})
		},
	}
	cmd.Flags().BoolVar(&newest, "newest", false, "only the newest backup and those that it depends on")
	cmd.Flags().DurationVar(&maxAge, "max-age", 0,
		"fail also if the newest backup is older than this (0: accept any age)")
	p.readerFlags(cmd)
	return cmd
}

func (c *ctl) verifyBackups(ctx context.Context, r *backup.Repository, newest bool, maxAge time.Duration) error {
	ms, bad, err := r.List(ctx)
	if err != nil {
		return err
	}
	if len(ms) == 0 {
		return errors.Join(errors.New("there is no backup"), c.problems(bad))
	}
	some := ms
	if newest {
		p, err := r.Plan(ctx, backup.Target{})
		if err != nil {
			return err
		}
		some = p.Chain
	}
	wrong := 0
	for _, m := range some {
		deep, err := r.Verify(ctx, ms, m)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			wrong++
			fmt.Fprintln(c.errOut, text(err))
			continue
		}
		what := "whole"
		if !deep {
			what = "as it was stored (encrypted: --identity to look into it)"
		}
		if _, err := fmt.Fprintf(c.out, "%s: revision %d, %s\n", m.ID, m.Revision, what); err != nil {
			return err
		}
	}
	err = errors.Join(notAll(wrong, len(some)), c.problems(bad))
	if maxAge > 0 {
		err = errors.Join(err, checkAge(ms[len(ms)-1].Time, time.Now(), maxAge))
	}
	return err
}

// skewMax is how far the clocks may differ of the machine that takes backups and the one that checks them.
const skewMax = time.Minute

// checkAge returns an error if the newest backup is too old, or if its age is unknown because a clock was wrong.
func checkAge(newest, now time.Time, maxAge time.Duration) error {
	switch age := now.Sub(newest); {
	case age > maxAge:
		return fmt.Errorf("the newest backup is %s old", age.Round(time.Second))
	case age < -skewMax:
		return fmt.Errorf("the newest backup has a time in the future (%s), so its age is not known: a clock is or "+
			"was wrong", newest.Format(time.RFC3339))
	}
	return nil
}

func (c *ctl) backupPruneCommand() *cobra.Command {
	var p backupPlace
	var k backup.Keep
	var dry bool
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove old backups, and the remains of unfinished ones", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if k.Fulls < 0 || k.For < 0 {
				return usageError{errors.New("--keep-fulls and --keep-for cannot be negative")}
			}
			return p.open(func(r *backup.Repository) error {
				gone, err := r.Expired(cmd.Context(), k, time.Now())
				if err != nil {
					return err
				}
				for _, m := range gone {
					if !dry {
						err = r.Remove(cmd.Context(), m)
					}
					if err == nil {
						_, err = fmt.Fprintln(c.out, m.ID)
					}
					if err != nil {
						return err
					}
				}
				if dry {
					return nil
				}
				_, err = r.Sweep(cmd.Context(), time.Now())
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only name the backups that would be removed")
	keepFlags(cmd, &k)
	p.flags(cmd, "from")
	return cmd
}

// parseTarget reads --at.
func parseTarget(at string) (t backup.Target, err error) {
	if at == "" {
		return t, nil
	}
	if rev, err := strconv.ParseInt(at, 10, 64); err == nil && rev > 0 {
		return backup.Target{Revision: rev}, nil
	}
	if t.Time, err = time.Parse(time.RFC3339, at); err != nil {
		return t, usageError{fmt.Errorf("--at %q: need a revision, or a time such as %s", at, time.RFC3339)}
	}
	return t, nil
}

// backupRestore is a run of backup restore.
type backupRestore struct {
	c             *ctl
	p             backupPlace
	at            string
	dir, keyspace string
	bump          uint64
	o             snapshot.RestoreOptions
}

func (c *ctl) backupRestoreCommand() *cobra.Command {
	r := backupRestore{c: c}
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Restore a keyspace, as it was at a revision or a time",
		Long: "Restores a keyspace, as it was at a revision or a time. With --data-dir it makes a data directory for " +
			"a standalone server, which must not run. With --keyspace it makes a new keyspace of a running " +
			"standalone server, or of pods; it needs the admin API. If that is interrupted there is no keyspace. On " +
			"pods you repeat the command to go on where it was; give a revision as --at then, so that it is the same.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&r.at, "at", "", "a revision, or a time (RFC 3339), which means the last backup taken by then "+
		"(default: the newest)")
	f.StringVar(&r.dir, "data-dir", "",
		"the data directory from which a server is to serve the keyspace; it must have no store yet")
	f.StringVarP(&r.keyspace, "keyspace", "k", "", "the new keyspace of a running server or of pods")
	f.Uint64Var(&r.bump, "bump-revision", 0, "add this to the revision; needs --mark-compacted")
	f.BoolVar(&r.o.MarkCompacted, "mark-compacted", false, "compact at the revision that --bump-revision makes")
	f.BoolVar(&r.o.WithoutAuth, "without-auth", false,
		"leave out users and roles; then everybody can read and write everything")
	r.p.readerFlags(cmd)
	return cmd
}

func (r *backupRestore) run(cmd *cobra.Command) error {
	t, err := parseTarget(r.at)
	if err != nil {
		return err
	}
	if r.o.Bump = int64(min(r.bump, math.MaxInt64)); (r.dir == "") == (r.keyspace == "") {
		return usageError{errors.New("--data-dir or --keyspace is needed, not both")}
	}
	if err := r.o.Check(); err != nil {
		return usageError{err}
	}
	into := r.intoDir
	if r.keyspace != "" {
		conn, err := r.c.dial(cmd.Context())
		if err != nil {
			return err
		}
		defer conn.Close()
		into = func(ctx context.Context, content *snapshot.Content) (snapshot.Restored, error) {
			return r.intoKeyspace(ctx, conn, content)
		}
	}
	return r.p.open(func(place *backup.Repository) error { return r.restore(cmd.Context(), place, t, into) })
}

func (r *backupRestore) restore(
	ctx context.Context, place *backup.Repository, t backup.Target,
	into func(context.Context, *snapshot.Content) (snapshot.Restored, error),
) error {
	p, err := place.Plan(ctx, t)
	if err != nil {
		return err
	}
	last := p.Chain[len(p.Chain)-1]
	r.o.Progress = r.c.progress(last.ID)
	var done snapshot.Restored
	err = place.Restore(ctx, p, func(ctx context.Context, content *snapshot.Content) (err error) {
		done, err = into(ctx, content)
		return err
	})
	if err != nil {
		return err
	}
	where := r.dir
	if r.keyspace != "" {
		where = "the keyspace " + r.keyspace
	}
	_, err = fmt.Fprintf(r.c.out, "restored %d backups up to %s into %s: revision %d, compact revision %d\n",
		len(p.Chain), last.ID, where, done.Revision, done.Compact)
	return err
}

func (r *backupRestore) intoDir(ctx context.Context, content *snapshot.Content) (snapshot.Restored, error) {
	return datadir.RestoreContent(ctx, content, r.dir, r.o)
}

// intoKeyspace makes one file of the content, and has a server make a keyspace of that.
func (r *backupRestore) intoKeyspace(
	ctx context.Context, conn *grpc.ClientConn, content *snapshot.Content,
) (done snapshot.Restored, err error) {
	f, err := snapshot.WriteContent(ctx, content, snapshot.Options{Dir: r.p.tmp})
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	there, err := r.c.restoreKeyspace(ctx, conn, &adminv1.RestoreRequest{
		Keyspace: r.keyspace, BumpRevision: r.bump, MarkCompacted: r.o.MarkCompacted, WithoutAuth: r.o.WithoutAuth,
	}, io.NopCloser(f.Summed()))
	return snapshot.Restored{Revision: there.GetRevision(), Compact: there.GetCompactRevision()}, err
}
