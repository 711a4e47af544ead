package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/backup"
	"github.com/headwaterdb/headwater/libs/backup/s3"
)

// sinceMetadata is the metadata that asks for the changes since a revision.
const sinceMetadata = "headwater-since"

// backupCommand is the command backup.
func (c *ctl) backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Take, list, check, remove and restore backups of a keyspace, in a directory or a bucket",
		Args:  args(cobra.NoArgs), RunE: help,
	}
	cmd.AddCommand(c.backupSaveCommand(), c.backupRunCommand(), c.backupListCommand(), c.backupVerifyCommand(),
		c.backupPruneCommand(), c.backupRestoreCommand())
	return cmd
}

// backupPlace says where backups are, and has the keys to encrypt and decrypt them.
type backupPlace struct {
	url, tmp   string
	recipients []string
	identities []string
}

const placeHelp = "a directory, or s3://bucket/prefix?endpoint=host:port&region=r&insecure=true"

func (p *backupPlace) flags(cmd *cobra.Command, name string) {
	f := cmd.Flags()
	f.StringVar(&p.url, name, "", placeHelp+"; each keyspace needs its own")
	f.StringVar(&p.tmp, "tmp-dir", "",
		"directory for temporary files, which are as large as a snapshot (default: the system's)")
}

func (p *backupPlace) writerFlags(cmd *cobra.Command) {
	p.flags(cmd, "to")
	cmd.Flags().StringArrayVar(&p.recipients, "encrypt-to", nil,
		"public key (age1…, of age-keygen) to encrypt backups to; may be given several times")
}

func (p *backupPlace) readerFlags(cmd *cobra.Command) {
	p.flags(cmd, "from")
	cmd.Flags().StringArrayVar(&p.identities, "identity", nil,
		"file of identities (of age-keygen) to decrypt backups with; may be given several times")
}

// open opens the place, for f.
func (p *backupPlace) open(f func(r *backup.Repository) error) error {
	if p.url == "" {
		return usageError{errors.New("give the place of the backups (--to or --from): " + placeHelp)}
	}
	keys, err := backup.ReadKeys(p.recipients, p.identities)
	if err != nil {
		return usageError{err}
	}
	if !strings.Contains(p.url, "://") {
		dir, err := filepath.Abs(p.url)
		if err != nil {
			return err
		}
		return f(backup.NewRepository(backup.Dir(dir), keys, p.tmp))
	}
	b, err := s3.Open(p.url)
	if err != nil {
		return usageError{err}
	}
	return errors.Join(f(backup.NewRepository(b, keys, p.tmp)), b.Close())
}

// backupSource is the server that is backed up, or from which a snapshot is fetched.
type backupSource struct {
	c                  *ctl
	endpoint, keyspace string
	u                  user
}

func (s *backupSource) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.endpoint, "client-endpoint", defaultClient,
		"host:port or https://host:port at which etcd's clients reach the server")
	f.StringVar(&s.keyspace, "keyspace", "", "name of the keyspace (default: that of calls that name none)")
	f.StringVar(&s.u.name, "user", "", "name[:password] of a user with the role root, if authentication is enabled")
	f.StringVar(&s.u.password, "password", "", "the user's password (default $"+passwordEnv+")")
}

func (s *backupSource) in(ctx context.Context) context.Context {
	if s.keyspace != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, keyspaceMetadata, s.keyspace)
	}
	return ctx
}

// Cluster implements backup.Source.
func (s *backupSource) Cluster(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(s.in(ctx), s.c.dialTimeout+s.c.commandTimeout)
	defer cancel()
	conn, err := s.c.connect(s.endpoint)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if ctx, err = s.u.login(ctx, conn); err != nil {
		return 0, err
	}
	r, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	return r.GetHeader().GetClusterId(), err
}

// fetch fetches the file that the context's metadata ask for. It returns the number of bytes.
func (s *backupSource) fetch(ctx context.Context, to io.Writer) (size int64, err error) {
	conn, err := s.c.connectForFile(s.endpoint)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if ctx, err = s.u.login(s.in(ctx), conn); err != nil {
		return 0, err
	}
	stream, err := pb.NewMaintenanceClient(conn).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return 0, err
	}
	return receiveFile(stream, to)
}

// Snapshot implements backup.Source.
func (s *backupSource) Snapshot(ctx context.Context, since int64, to *os.File) error {
	if since > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, sinceMetadata, strconv.FormatInt(since, 10))
	}
	_, err := s.fetch(ctx, to)
	if status.Code(err) == codes.OutOfRange { // the revision is compacted, or in the future
		return fmt.Errorf("%w: %s", backup.ErrNoLog, text(err))
	}
	return err
}

func (c *ctl) backupSaveCommand() *cobra.Command {
	var p backupPlace
	src := backupSource{c: c}
	var full bool
	cmd := &cobra.Command{
		Use:   "save",
		Short: "Take one backup: a log of what has changed since the last one, or a full one if there is none",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.open(func(r *backup.Repository) error {
				kind := backup.Log
				if full {
					kind = backup.Full
				}
				t, err := r.Take(cmd.Context(), &src, src.keyspace, kind, time.Now)
				if err != nil {
					return err
				}
				if t.Why != "" {
					fmt.Fprintln(c.errOut, "took a full backup, because a log is not possible:", t.Why)
				}
				return c.printValue(t.Manifest, manifestRecord(&t.Manifest))
			})
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "take a full backup")
	p.writerFlags(cmd)
	src.flags(cmd)
	return cmd
}

func manifestRecord(m *backup.Manifest) record {
	return record{
		{"id", m.ID},
		{"kind", m.Kind},
		{"time", m.Time.Format(time.RFC3339)},
		{"since", m.Since},
		{"revision", m.Revision},
		{"compacted", m.Compact},
		{"bytes", m.Bytes},
		{"encryption", m.Encryption},
	}
}

// Defaults of backup run.
const (
	fullEvery = 24 * time.Hour
	logEvery  = time.Minute
	keepFulls = 7
)

func keepFlags(cmd *cobra.Command, k *backup.Keep) {
	cmd.Flags().IntVar(&k.Fulls, "keep-fulls", keepFulls, "number of full backups to keep, with their logs (0: all)")
	cmd.Flags().DurationVar(&k.For, "keep-for", 0,
		"remove a full backup with its logs once all of them are older (0: never); the newest full backup stays")
}

func (c *ctl) backupRunCommand() *cobra.Command {
	var p backupPlace
	src := backupSource{c: c}
	var run backup.Runner
	cmd := &cobra.Command{
		Use: "run", Short: "Take backups on a schedule until you stop it, and remove old ones",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if run.Schedule.Full <= 0 || run.Schedule.Log < 0 || run.Keep.Fulls < 0 || run.Keep.For < 0 {
				return usageError{errors.New("--full-every must be positive, and no other flag may be negative")}
			}
			return p.open(func(r *backup.Repository) error {
				run.Repository, run.Source, run.Keyspace, run.Now = r, &src, src.keyspace, time.Now
				run.Log = slog.New(slog.NewTextHandler(c.errOut, nil))
				if err := run.Run(cmd.Context()); cmd.Context().Err() == nil {
					return err
				}
				return nil // an interrupt is the normal end
			})
		},
	}
	f := cmd.Flags()
	f.DurationVar(&run.Schedule.Full, "full-every", fullEvery, "time between two full backups")
	f.DurationVar(&run.Schedule.Log, "log-every", logEvery,
		"time between two logs; make it shorter than the interval at which clients compact (0: no logs)")
	keepFlags(cmd, &run.Keep)
	p.writerFlags(cmd)
	src.flags(cmd)
	return cmd
}

func (c *ctl) backupListCommand() *cobra.Command {
	var p backupPlace
	cmd := &cobra.Command{
		Use: "list", Short: "List the backups in order of time", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.open(func(r *backup.Repository) error {
				ms, bad, err := r.List(cmd.Context())
				if err != nil {
					return err
				}
				var records []record
				for i := range ms {
					records = append(records, manifestRecord(&ms[i]))
				}
				return errors.Join(c.printValue(ms, records...), c.problems(bad))
			})
		},
	}
	p.readerFlags(cmd)
	return cmd
}

// problems reports the manifests that cannot be used.
func (c *ctl) problems(bad []backup.Problem) error {
	for _, b := range bad {
		fmt.Fprintln(c.errOut, text(b.Err))
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d manifests cannot be used", len(bad))
	}
	return nil
}

// notAll returns the error of a command that has found damaged backups.
func notAll(n int, total int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d backups cannot be restored", n, total)
}
