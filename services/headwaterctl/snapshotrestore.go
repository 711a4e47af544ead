package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/migrate"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/snapshot"
	"github.com/headwaterdb/headwater/libs/snapshot/datadir"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// progressEvery is the time between two lines about progress.
const progressEvery = 5 * time.Second

// fileRestore is a run of snapshot restore.
type fileRestore struct {
	c             *ctl
	dir, keyspace string
	skip, follow  bool
	bump          uint64
	o             snapshot.RestoreOptions
}

func (c *ctl) snapshotRestoreCommand() *cobra.Command {
	r := fileRestore{c: c}
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Restore a file into a data directory, or into a new keyspace of a running server or of pods",
		Long: "Restores a snapshot, of etcd or of Headwater, with its revisions, history, leases and users.\n\n" +
			"With --data-dir it makes a data directory for a standalone server, which must not run. With --keyspace " +
			"it makes a new keyspace of a running standalone server, or of pods; it needs the admin API. If that is " +
			"interrupted there is no keyspace. On pods you repeat the command to go on where it was, through any " +
			"pod; keyspace delete clears what is left if you do not.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error { return r.run(cmd, given[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&r.dir, "data-dir", "",
		"the data directory from which a server is to serve the keyspace; it must have no store yet")
	f.StringVarP(&r.keyspace, "keyspace", "k", "", "the new keyspace of a running server or of pods")
	f.Uint64Var(&r.bump, "bump-revision", 0, "add this to the revision; needs --mark-compacted")
	f.BoolVar(&r.o.MarkCompacted, "mark-compacted", false, "compact at the revision that --bump-revision makes")
	f.BoolVar(&r.follow, "follow", false,
		"let the keyspace follow the server that the file is from: it takes no writes until "+
			"migrate --cut-over")
	f.BoolVar(&r.o.WithoutAuth, "without-auth", false,
		"leave out users and roles; then everybody can read and write everything")
	skipFlag(cmd, &r.skip)
	return cmd
}

func (r *fileRestore) run(cmd *cobra.Command, file string) error {
	if r.o.Bump = int64(min(r.bump, math.MaxInt64)); (r.dir == "") == (r.keyspace == "") {
		return usageError{errors.New("--data-dir or --keyspace is needed, not both")}
	}
	if r.follow {
		r.o.Follow = &mvcc.Follow{} // its source is the first that it is given
	}
	if err := r.o.Check(); err != nil {
		return usageError{err}
	}
	if r.keyspace != "" {
		return r.c.stream(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
			return r.intoKeyspace(ctx, conn, file)
		})
	}
	return r.intoDir(cmd.Context(), file)
}

func (r *fileRestore) intoDir(ctx context.Context, file string) error {
	s, err := snapshot.Open(ctx, file, r.skip)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer s.Close()
	r.o.Progress = r.c.progress(file)
	done, err := datadir.Restore(ctx, s, r.dir, r.o)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return r.restored(file, r.dir, done.Revision, done.Compact)
}

// intoKeyspace has a server make a keyspace of the file. What is wrong with the file shows before it is sent.
func (r *fileRestore) intoKeyspace(ctx context.Context, conn *grpc.ClientConn, file string) error {
	s, err := snapshot.Open(ctx, file, r.skip)
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	done, err := r.c.restoreKeyspace(ctx, conn, &adminv1.RestoreRequest{
		Keyspace: r.keyspace, Follow: r.follow, SkipHashCheck: r.skip, BumpRevision: r.bump,
		MarkCompacted: r.o.MarkCompacted, WithoutAuth: r.o.WithoutAuth,
	}, f)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return r.restored(file, "the keyspace "+r.keyspace, done.GetRevision(), done.GetCompactRevision())
}

// restoreKeyspace has a server make a keyspace of a file, which it closes, and shows the progress.
func (c *ctl) restoreKeyspace(
	ctx context.Context, conn *grpc.ClientConn, r *adminv1.RestoreRequest, file io.ReadCloser,
) (*adminv1.Restored, error) {
	w := newProgressLine(c.errOut)
	defer w.end()
	return migrate.Restore(ctx, conn, r, file, func(p *adminv1.RestoreProgress) {
		w.report(progressText(migrate.Progress{Bytes: p.GetBytes(), Revisions: p.GetRevisions()}))
	})
}

func (r *fileRestore) restored(file, into string, revision, compact int64) error {
	_, err := fmt.Fprintf(r.c.out, "restored %s into %s: revision %d, compact revision %d\n",
		file, into, revision, compact)
	return err
}

// progress says now and then how far a restore has come.
func (c *ctl) progress(file string) func(int64) {
	begin, last := time.Now(), time.Now()
	return func(n int64) {
		if time.Since(last) < progressEvery {
			return
		}
		last = time.Now()
		fmt.Fprintf(c.errOut, "%s: %d versions in %s\n", file, n, time.Since(begin).Round(time.Second))
	}
}
