package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwaterdb/headwater/libs/backup"
	"github.com/headwaterdb/headwater/libs/snapshot"
	"github.com/headwaterdb/headwater/libs/snapshot/datadir"
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

func (c *ctl) backupRestoreCommand() *cobra.Command {
	var p backupPlace
	var at, dir string
	var bump uint64
	var o snapshot.RestoreOptions
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Restore a keyspace, as it was at a revision or a time, into a data directory that no server uses",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := parseTarget(at)
			if err != nil {
				return err
			}
			if o.Bump = int64(min(bump, math.MaxInt64)); dir == "" {
				return usageError{errors.New("give --data-dir")}
			}
			if err := o.Check(); err != nil {
				return usageError{err}
			}
			return p.open(func(r *backup.Repository) error { return c.restoreBackup(cmd.Context(), r, t, dir, o) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&at, "at", "", "a revision, or a time (RFC 3339), which means the last backup taken by then "+
		"(default: the newest)")
	f.StringVar(&dir, "data-dir", "",
		"the data directory from which a server is to serve the keyspace; it must have no store yet")
	f.Uint64Var(&bump, "bump-revision", 0, "add this to the revision; needs --mark-compacted")
	f.BoolVar(&o.MarkCompacted, "mark-compacted", false, "compact at the revision that --bump-revision makes")
	f.BoolVar(&o.WithoutAuth, "without-auth", false,
		"leave out users and roles; then everybody can read and write everything")
	p.readerFlags(cmd)
	return cmd
}

func (c *ctl) restoreBackup(
	ctx context.Context, r *backup.Repository, t backup.Target, dir string, o snapshot.RestoreOptions,
) error {
	p, err := r.Plan(ctx, t)
	if err != nil {
		return err
	}
	last := p.Chain[len(p.Chain)-1]
	o.Progress = c.progress(last.ID)
	var done snapshot.Restored
	err = r.Restore(ctx, p, func(ctx context.Context, content *snapshot.Content) error {
		var err error
		done, err = datadir.RestoreContent(ctx, content, dir, o)
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "restored %d backups up to %s into %s: revision %d, compact revision %d\n",
		len(p.Chain), last.ID, dir, done.Revision, done.Compact)
	return err
}
