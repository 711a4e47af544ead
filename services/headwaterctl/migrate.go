package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/migrate"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

// remote is an etcd that is not administered here: flags with a prefix say how it is reached.
type remote struct {
	endpoints                 []string
	caFile, certFile, keyFile string
	user                      user
}

// flags adds those of a remote etcd.
func (r *remote) flags(cmd *cobra.Command, name string) {
	f := cmd.Flags()
	f.StringSliceVar(&r.endpoints, name, nil, "URLs of the etcd's members, such as https://etcd:2379")
	f.StringVar(&r.caFile, name+"-cacert", "", "authorities (PEM) of the etcd's certificates (default: the system's)")
	f.StringVar(&r.certFile, name+"-cert", "", "certificate (PEM) that is shown to the etcd")
	f.StringVar(&r.keyFile, name+"-key", "", "key (PEM) of --"+name+"-cert")
	f.StringVar(&r.user.name, name+"-user", "",
		"name[:password] of a user with role root, where the etcd has authentication enabled")
	f.StringVar(&r.user.password, name+"-password", "", "the user's password (default $"+passwordEnv+")")
	_ = cmd.MarkFlagRequired(name)
}

// dial connects to it. The caller closes the client.
func (r *remote) dial(ctx context.Context, timeout time.Duration) (*clientv3.Client, error) {
	c := clientv3.Config{
		Endpoints: r.endpoints, DialTimeout: timeout, Logger: zap.NewNop(), Context: ctx,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 10 * time.Second, RejectOldCluster: false,
	}
	if strings.HasPrefix(r.endpoints[0], secureScheme) {
		info := transport.TLSInfo{TrustedCAFile: r.caFile, CertFile: r.certFile, KeyFile: r.keyFile}
		var err error
		if c.TLS, err = info.ClientConfig(); err != nil {
			return nil, usageError{err}
		}
	}
	if r.user.name != "" {
		u := r.user.withPassword()
		c.Username, c.Password = u.name, u.password
	}
	e, err := clientv3.New(c)
	if err != nil {
		return nil, connectError{fmt.Errorf("%s: %w", strings.Join(r.endpoints, ","), err)}
	}
	return e, nil
}

// migrateCommand is migrate.
func (c *ctl) migrateCommand() *cobra.Command {
	var from remote
	var keyspace, tempDir string
	var check, cutOver bool
	cmd := &cobra.Command{
		Use: "migrate --from URL", Short: "Copies a live etcd into a keyspace, with its revisions, and follows it",
		Long: "Copies a live etcd into a keyspace that is not there yet, with its revisions, history, leases and users, " +
			"and follows it until it is interrupted. Meanwhile the keyspace answers reads. Both are compared in full. " +
			"It can be repeated at any time, and goes on where it was. With --cut-over, and the etcd's writers " +
			"stopped, the keyspace takes writes from then on.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check && cutOver {
				return usageError{errors.New("--check or --cut-over, not both")}
			}
			source, err := from.dial(cmd.Context(), c.dialTimeout)
			if err != nil {
				return err
			}
			defer source.Close()
			m := &migrate.Migration{Source: migrate.NewSource(source), TempDir: tempDir}
			defer m.Close()
			if check {
				return c.checkSource(cmd.Context(), m)
			}
			return c.stream(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				m.Target = migrate.NewTarget(conn, keyspace)
				return c.migrate(ctx, m, cutOver)
			})
		},
	}
	from.flags(cmd, "from")
	f := cmd.Flags()
	f.StringVarP(&keyspace, "keyspace", "k", "", "name of the keyspace (default: the endpoint's first)")
	f.BoolVar(&check, "check", false, "only read a snapshot of the etcd, and say what could not be held")
	f.BoolVar(&cutOver, "cut-over", false,
		"have the keyspace take writes once it is where the etcd is; stop the etcd's writers before")
	f.StringVar(&tempDir, "temp-dir", "", "where snapshots are put that are read here (default: the system's)")
	return cmd
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
			w.line("interrupted: repeat it to go on")
		}
		return err
	}
	if err := m.CatchUp(ctx); err != nil {
		return err
	}
	done, err := m.CutOver(ctx)
	if err != nil {
		return err
	}
	how := "that had changed since both were compared in full"
	if done.Full {
		how = "which are all"
	}
	w.end()
	_, err = fmt.Fprintf(c.out, "cut over at revision %d in %s: compared %d keys %s, %d leases, users %s\n",
		done.Revision, done.Took.Round(time.Millisecond), done.Keys, how, done.Leases,
		map[bool]string{true: "taken again", false: "as they were"}[done.Auth])
	return err
}

// progressText is progress as people read it.
func progressText(p migrate.Progress) string {
	switch p.Phase {
	case migrate.Copying:
		if p.Revisions == 0 {
			return fmt.Sprintf("copying: %d MiB received", p.Bytes>>20)
		}
		return fmt.Sprintf("copying: %d MiB received, %d versions written", p.Bytes>>20, p.Revisions)
	case migrate.Following:
		if lag := p.Source - p.Revision; lag > 0 {
			return fmt.Sprintf("following: revision %d, %d behind, for %s", p.Revision, lag, p.Behind.Round(time.Second))
		}
		return fmt.Sprintf("following: revision %d, where the source is", p.Revision)
	case migrate.Comparing:
		return fmt.Sprintf("comparing: %d keys at revision %d", p.Keys, p.Revision)
	}
	return p.Phase.String()
}

// checkSource says what of a source could not be held.
func (c *ctl) checkSource(ctx context.Context, m *migrate.Migration) error {
	alarms, err := m.Source.Alarms(ctx)
	if err != nil {
		return err
	}
	path, err := m.Download(ctx)
	if err != nil {
		return err
	}
	r, err := snapshot.Open(ctx, path, false)
	if err = errors.Join(err, os.Remove(path)); err != nil {
		return err
	}
	defer r.Close()
	found, err := migrate.Check(ctx, r)
	if err != nil {
		return err
	}
	for _, a := range alarms {
		found.Notes = append(found.Notes, "the alarm "+a+" is the etcd's, and is not copied")
	}
	if err := c.printValue(found, record{
		{"revision", found.Revision}, {"compacted", found.Compact}, {"revisions", found.Revisions},
		{"bytes", found.Bytes}, {"leases", found.Leases}, {"users", found.Users}, {"roles", found.Roles},
		{"largest key", found.LargestKey}, {"largest value", found.LargestVal},
	}); err != nil {
		return err
	}
	for _, line := range found.Notes {
		fmt.Fprintln(c.errOut, line)
	}
	for _, line := range found.Findings {
		fmt.Fprintln(c.errOut, "cannot be held:", line)
	}
	if n := int64(len(found.Findings)) + found.More; n > 0 {
		return fmt.Errorf("%d things of the source could not be held", n)
	}
	_, err = fmt.Fprintln(c.errOut, "all of it can be held")
	return err
}
