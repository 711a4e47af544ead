package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/migrate"
)

// migrateCommand is migrate.
func (c *ctl) migrateCommand() *cobra.Command {
	var from, to remote
	var keyspace, tempDir, workDir, root string
	var check, cutOver, pods bool
	cmd := &cobra.Command{
		Use:   "migrate --from URL [--to URL]",
		Short: "Copy a live etcd into a keyspace, with its revisions, and follow the etcd",
		Long: "Copies a live etcd into a new keyspace, with its revisions, history, leases and users, and follows " +
			"the etcd until you interrupt it. Meanwhile the keyspace answers reads. The command compares both in " +
			"full. You can repeat it at any time, and it goes on where it was. Stop the etcd's writers and repeat it " +
			"with --cut-over: from then on the keyspace takes writes.\n\n" +
			"With --to it goes the other way: it puts the current keys and leases of --from (a Headwater) into an " +
			"etcd without keys. That loses " + migrate.Lost + "; a snapshot (snapshot save) keeps them.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check && cutOver {
				return usageError{errors.New("give --check or --cut-over, not both")}
			}
			if !check && (pods || cmd.Flags().Changed("fdb-root")) {
				return usageError{errors.New("--pods and --fdb-root go with --check")}
			}
			if check && workDir != "" {
				return usageError{errors.New("--work-dir goes with a copy, not with --check")}
			}
			if len(to.endpoints) > 0 && (check || cutOver || keyspace != "" || tempDir != "" || workDir != "") {
				return usageError{errors.New("--to goes with --from and --from-keyspace only")}
			}
			source, err := from.dial(cmd.Context(), c.dialTimeout)
			if err != nil {
				return err
			}
			defer source.Close()
			if len(to.endpoints) > 0 {
				return c.migrateBack(cmd.Context(), migrate.NewSource(source), &to)
			}
			m := &migrate.Migration{Source: migrate.NewSource(source), TempDir: tempDir, WorkDir: workDir}
			defer m.Close()
			if check {
				return c.checkSource(cmd.Context(), m, pods, root)
			}
			return c.stream(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				m.Target = migrate.NewTarget(conn, keyspace)
				return c.migrate(ctx, m, cutOver)
			})
		},
	}
	from.flags(cmd, "from")
	from.keyspaceFlag(cmd)
	to.flags(cmd, "to")
	f := cmd.Flags()
	f.StringVarP(&keyspace, "keyspace", "k", "", "name of the keyspace (default: that of calls that name none)")
	f.BoolVar(&check, "check", false, "only read a snapshot of the etcd, and say what a keyspace could not hold")
	f.BoolVar(&pods, "pods", false, "with --check: fail also for what only pods could not hold")
	f.StringVar(&root, "fdb-root", migrate.DefaultRoot, "with --check: the --fdb-root of the pods")
	f.BoolVar(&cutOver, "cut-over", false,
		"let the keyspace take writes once it has reached the etcd's revision; stop the etcd's writers first")
	f.StringVar(&tempDir, "temp-dir", "",
		"directory for snapshots while this command reads them (default: the system's)")
	f.StringVar(&workDir, "work-dir", "",
		"directory that keeps the etcd's snapshot until the copy is whole, and what the etcd does meanwhile, up to 16 "+
			"GiB; a copy that was killed goes on with the snapshot")
	return cmd
}

// migrateBack puts the content of a source into an etcd.
func (c *ctl) migrateBack(ctx context.Context, source *migrate.Source, to *remote) error {
	target, err := to.dial(ctx, c.dialTimeout)
	if err != nil {
		return err
	}
	defer target.Close()
	w := newProgressLine(c.errOut)
	w.line("not kept: " + migrate.Lost)
	done, err := migrate.Back(ctx, source, target, func(n int64) { w.report(fmt.Sprintf("%d keys", n)) })
	w.end()
	if err != nil {
		return fmt.Errorf("%w; %d keys and %d leases were put before that", err, done.Keys, done.Leases)
	}
	_, err = fmt.Fprintf(c.out, "put %d keys and %d leases of revision %d, now at revision %d\n",
		done.Keys, done.Leases, done.From, done.Revision)
	return err
}

// migrate follows a source, or cuts over.
func (c *ctl) migrate(ctx context.Context, m *migrate.Migration, cutOver bool) error {
	w := newProgressLine(c.errOut)
	m.Note = w.line
	m.Report = func(p migrate.Progress) { w.report(progressText(p)) }
	defer w.end()
	if !cutOver {
		err := m.Run(ctx)
		if ctx.Err() != nil {
			w.line("interrupted: repeat the command to go on")
		}
		return err
	}
	if err := m.CatchUp(ctx); err != nil {
		return err
	}
	done, err := m.CutOver(ctx)
	var late *migrate.LateError
	if err != nil && !errors.As(err, &late) {
		return err
	}
	how := "that had changed since both were compared in full"
	if done.Full {
		how = "(all of them)"
	}
	w.end()
	_, writeErr := fmt.Fprintf(c.out, "cut over at revision %d in %s: compared %d keys %s, %d leases, users %s\n",
		done.Revision, done.Took.Round(time.Millisecond), done.Keys, how, done.Leases,
		map[bool]string{true: "copied again", false: "unchanged"}[done.Auth])
	return errors.Join(err, writeErr)
}

// progressText writes progress for people.
func progressText(p migrate.Progress) string {
	switch p.Phase {
	case migrate.Copying:
		if p.Revisions == 0 {
			return fmt.Sprintf("copying: %d MiB received", p.Bytes>>20)
		}
		return fmt.Sprintf("copying: %d MiB received, %d versions written", p.Bytes>>20, p.Revisions)
	case migrate.Following:
		if lag := p.Source - p.Revision; lag > 0 {
			return fmt.Sprintf(
				"following: revision %d, %d behind, for %s", p.Revision, lag, p.Behind.Round(time.Second),
			)
		}
		return fmt.Sprintf("following: revision %d, up to date", p.Revision)
	case migrate.Comparing:
		return fmt.Sprintf("comparing: %d keys at revision %d", p.Keys, p.Revision)
	}
	return p.Phase.String()
}

// checkSource reports what of a source a keyspace could not hold. pods says that it is to be one of pods.
func (c *ctl) checkSource(ctx context.Context, m *migrate.Migration, pods bool, root string) error {
	alarms, err := m.Source.Alarms(ctx)
	if err != nil {
		return err
	}
	r, err := m.Download(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	found, err := migrate.Check(ctx, r, root)
	if err != nil {
		return err
	}
	for _, a := range alarms {
		found.Notes = append(found.Notes, "the alarm "+a+" belongs to the etcd and is not copied")
	}
	if err := c.printValue(found, record{
		{"revision", found.Revision},
		{"compacted", found.Compact},
		{"revisions", found.Revisions},
		{"bytes", found.Bytes},
		{"leases", found.Leases},
		{"users", found.Users},
		{"roles", found.Roles},
		{"largest key", found.LargestKey},
		{"largest value", found.LargestVal},
	}); err != nil {
		return err
	}
	return c.judge(found, pods)
}

// judge writes what was found, and returns an error if the keyspace could not hold something.
func (c *ctl) judge(found *migrate.Checked, pods bool) error {
	for _, line := range found.Notes {
		fmt.Fprintln(c.errOut, line)
	}
	for _, line := range found.Findings {
		fmt.Fprintln(c.errOut, "the keyspace cannot hold:", line)
	}
	for _, line := range found.OnPods {
		fmt.Fprintln(c.errOut, "pods cannot hold:", line)
	}
	n, onPods := int64(len(found.Findings))+found.More, int64(len(found.OnPods))+found.MoreOnPods
	if pods {
		n += onPods
	}
	switch {
	case n > 0:
		return fmt.Errorf("the keyspace cannot hold %d things of the source", n)
	case onPods > 0:
		fmt.Fprintf(c.errOut, "a standalone server can hold everything; pods cannot hold %d things\n", onPods)
	default:
		fmt.Fprintln(c.errOut, "the keyspace can hold everything")
	}
	return nil
}
