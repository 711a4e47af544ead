package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Exit codes, which are etcdctl's.
const (
	exitOK            = 0
	exitError         = 1
	exitBadConnection = 2
	exitInterrupted   = 5
	exitBadArgs       = 128
)

// Defaults.
const (
	endpointsEnv = "HEADWATERCTL_ENDPOINTS"
	// defaultEndpoint is the socket of a server that was started by `make run` in the same directory.
	defaultEndpoint = "./data/default.headwater/admin.sock"
	dialTimeout     = 2 * time.Second
	commandTimeout  = 5 * time.Second
)

// usageError is an error of the command line.
type usageError struct{ error }

// connectError: no endpoint could be reached.
type connectError struct{ error }

// ctl is what all commands share.
type ctl struct {
	endpoints []string
	// For endpoints with TLS.
	caFile, certFile, keyFile string
	dialTimeout               time.Duration
	commandTimeout            time.Duration
	format                    string
	out, errOut               io.Writer
}

// run runs a command line and returns the exit code.
func run(args []string, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	c := &ctl{out: out, errOut: errOut}
	root := c.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(errOut, "Error:", text(err))
	return codeOf(ctx, err)
}

// grpcWords are the words that gRPC puts before the message of an error.
var grpcWords = regexp.MustCompile(`rpc error: code = \w+ desc = `)

// text returns an error in one line, without the words that gRPC puts around it.
func text(err error) string {
	s := err.Error()
	if st, ok := status.FromError(err); ok {
		s = st.Message()
	}
	return strings.ReplaceAll(grpcWords.ReplaceAllString(s, ""), "\n", "; ")
}

func codeOf(ctx context.Context, err error) int {
	var usage usageError
	var connect connectError
	switch {
	case errors.As(err, &usage):
		return exitBadArgs
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &connect), status.Code(err) == codes.Unavailable:
		return exitBadConnection
	}
	return exitError
}

// root is the top command.
func (c *ctl) root() *cobra.Command {
	root := &cobra.Command{
		Use: "headwaterctl", Short: "Administer a Headwater server: its keyspaces, and what they store",
		SilenceErrors: true, SilenceUsage: true, Args: args(cobra.NoArgs),
		PersistentPreRunE: func(*cobra.Command, []string) error { return checkFormat(c.format) },
		RunE:              help,
	}
	root.SetOut(c.out)
	root.SetErr(c.errOut)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.StringSliceVar(&c.endpoints, "endpoints", nil,
		"admin APIs: paths of unix sockets, host:port or https://host:port; the first that answers is used "+
			"(default $"+endpointsEnv+", then "+defaultEndpoint+")")
	f.StringVar(&c.caFile, "cacert", "", "authorities (PEM) of the certificates of https:// endpoints")
	f.StringVar(&c.certFile, "cert", "", "certificate (PEM) to show to https:// endpoints")
	f.StringVar(&c.keyFile, "key", "", "key (PEM) of --cert")
	f.DurationVar(&c.dialTimeout, "dial-timeout", dialTimeout, "time within which an endpoint must answer")
	f.DurationVar(&c.commandTimeout, "command-timeout", commandTimeout,
		"time within which a short command must end, not counting the dialling")
	f.StringVarP(&c.format, "write-out", "w", formatTable, "output format: table, json or fields")
	_ = root.RegisterFlagCompletionFunc("write-out",
		cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(c.keyspaceCommand(), c.usageCommand(), c.logCommand(), c.rowsCommand(), c.fsckCommand(),
		c.podsCommand(), c.topCommand(), c.electionsCommand(), c.versionCommand(), c.snapshotCommand(),
		c.migrateCommand(), c.exportCommand(), c.importCommand(), c.backupCommand())
	return root
}

// help is the action of a command that only has subcommands.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// args makes wrong arguments end in etcdctl's way.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return usageError{fmt.Errorf("%w\nusage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}

// noArgs is for a command that takes flags only. Its error names the flag for a keyspace, if the command has one.
func noArgs(cmd *cobra.Command, given []string) error {
	if len(given) == 0 {
		return nil
	}
	hint := ""
	if cmd.Flags().Lookup("keyspace") != nil {
		hint = ": --keyspace names a keyspace"
	}
	return usageError{fmt.Errorf("%s takes no argument, such as %q%s\nusage: %s",
		cmd.CommandPath(), given[0], hint, cmd.UseLine())}
}

// call runs f with a connection, within the time limit of short commands.
func (c *ctl) call(cmd *cobra.Command, f func(context.Context, *grpc.ClientConn) error) error {
	return c.stream(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
		ctx, cancel := context.WithTimeout(ctx, c.commandTimeout)
		defer cancel()
		return f(ctx, conn)
	})
}

// stream runs f with a connection, without a time limit.
func (c *ctl) stream(cmd *cobra.Command, f func(context.Context, *grpc.ClientConn) error) error {
	conn, err := c.dial(cmd.Context())
	if err != nil {
		return err
	}
	defer conn.Close()
	return f(cmd.Context(), conn)
}
