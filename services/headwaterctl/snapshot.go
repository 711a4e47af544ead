package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/headwaterdb/headwater/libs/snapshot"
)

const (
	// defaultClient is where etcd's clients expect a server.
	defaultClient = "127.0.0.1:2379"
	// revisionMetadata is the metadata that asks for a past revision.
	revisionMetadata = "headwater-revision"
	// keyspaceMetadata is the metadata that names a keyspace.
	keyspaceMetadata = "headwater-keyspace"
	// passwordEnv is the variable with the password of --user. Other users could see it in a command line.
	passwordEnv = "HEADWATERCTL_PASSWORD"
	// partSuffix ends the name of a file until it is complete.
	partSuffix = ".part"
)

// snapshotCommand is the command snapshot with its subcommands.
func (c *ctl) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "snapshot", Short: "Fetch, describe and restore snapshots in etcd's own file format",
		Args: args(cobra.NoArgs), RunE: help,
	}
	cmd.AddCommand(c.snapshotSaveCommand(), c.snapshotStatusCommand(), c.snapshotRestoreCommand())
	return cmd
}

func (c *ctl) snapshotSaveCommand() *cobra.Command {
	src := backupSource{c: c}
	var rev int64
	cmd := &cobra.Command{
		Use: "save FILE", Short: "Fetch a snapshot from a running server, of now or of a past revision",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx := cmd.Context()
			if rev < 0 {
				return usageError{fmt.Errorf("--revision %d: a revision must be positive", rev)}
			}
			if rev > 0 {
				ctx = metadata.AppendToOutgoingContext(ctx, revisionMetadata, strconv.FormatInt(rev, 10))
			}
			size, err := writeWhole(given[0], func(w io.Writer) (int64, error) { return src.fetch(ctx, w) })
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "saved %s, %d bytes\n", given[0], size)
			return err
		},
	}
	src.flags(cmd)
	cmd.Flags().Int64Var(&rev, "revision", 0, "a past revision that has not been compacted (0: the newest)")
	return cmd
}

// user is the user whose permissions are used to fetch a file.
type user struct{ name, password string }

// withPassword returns the user with the password from the name or from the environment.
func (u user) withPassword() user {
	if name, password, ok := strings.Cut(u.name, ":"); ok {
		return user{name, password}
	}
	if u.password == "" {
		u.password = os.Getenv(passwordEnv)
	}
	return u
}

// login adds the user's token to the context.
func (u user) login(ctx context.Context, conn *grpc.ClientConn) (context.Context, error) {
	if u.name == "" {
		return ctx, nil
	}
	u = u.withPassword()
	r, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: u.name, Password: u.password})
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, r.GetToken()), nil
}

// receiveFile writes a stream to a file, and checks the checksum at its end.
func receiveFile(stream pb.Maintenance_SnapshotClient, w io.Writer) (size int64, err error) {
	sum := sha256.New()
	var last []byte
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return size, err
		}
		sum.Write(last)
		last = m.GetBlob()
		size += int64(len(last))
		if _, err := w.Write(last); err != nil {
			return size, err
		}
	}
	if !bytes.Equal(sum.Sum(nil), last) {
		return size, errors.New("the snapshot is incomplete or damaged: its checksum differs")
	}
	return size, nil
}

func (c *ctl) snapshotStatusCommand() *cobra.Command {
	var skip bool
	cmd := &cobra.Command{
		Use: "status FILE", Short: "Read a file in full and say what is in it",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			r, err := snapshot.Open(cmd.Context(), given[0], skip)
			if err != nil {
				return fmt.Errorf("%s: %w", given[0], err)
			}
			defer r.Close()
			s, err := r.Status(cmd.Context())
			if err != nil {
				return fmt.Errorf("%s: %w", given[0], err)
			}
			return c.printValue(s, record{
				{"revision", s.Revision},
				{"compacted", s.Compact},
				{"keys", s.Keys},
				{"revisions", s.Revisions},
				{"leases", s.Leases},
				{"users", s.Users},
				{"auth", s.Auth},
				{"bytes", s.Size},
				{"version", s.Version},
			})
		},
	}
	skipFlag(cmd, &skip)
	return cmd
}

func skipFlag(cmd *cobra.Command, skip *bool) {
	cmd.Flags().BoolVar(skip, "skip-hash-check", false,
		"accept a file without a checksum, such as one from a data directory, or with a wrong one")
}
