package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/nullserver"
)

// common are the flags of all loads.
type common struct {
	load.Options
	json bool
}

// more are commands that exist behind a build tag.
var more []func(*common) *cobra.Command

// New returns the command line tool. Results are written to out.
func New(out io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use: "hwbench",
		Short: "Load generator for servers that speak the etcd v3 API, with the commands and flags of etcd's " +
			"benchmark tool",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(out)
	for _, command := range append([]func(*common) *cobra.Command{
		putCommand, fillCommand, rangeCommand, listCommand, countCommand, mixedCommand,
		txnPutCommand, txnMixedCommand, createCommand, updateCommand,
		watchCommand, watchLatencyCommand, leaseCommand,
	}, more...) {
		c := &common{} // each command has its own: registering a flag writes its default
		cmd := command(c)
		globalFlags(cmd.Flags(), c)
		root.AddCommand(cmd)
	}
	root.AddCommand(watchLoads()...)
	root.AddCommand(valueLoads()...)
	root.AddCommand(nullCommand())
	return root
}

func globalFlags(f *pflag.FlagSet, c *common) {
	f.StringSliceVar(&c.Endpoints, "endpoints", []string{"127.0.0.1:2379"}, "gRPC endpoints")
	f.BoolVar(&c.TLS, "tls", false, "connect with TLS, without a check of the server's certificate")
	f.StringVar(&c.User, "user", "", "name:password of the user who sends the requests")
	f.IntVar(&c.Conns, "conns", 1, "number of gRPC connections")
	f.IntVar(&c.Clients, "clients", 1, "number of concurrent clients")
	f.DurationVar(&c.DialTimeout, "dial-timeout", 10*time.Second, "timeout of a connection attempt")
	f.StringVar(&c.Prefix, "prefix", "/hwbench/", "prefix of all keys; part of --key-size")
	f.Uint64Var(&c.Seed, "seed", 1, "seed of keys and values")
	f.BoolVar(&c.Verify, "verify", true, "fail unless the server's revision moved by the number of acknowledged "+
		"writes (needs a server without other clients)")
	f.IntVar(&c.ServerPID, "server-pid", 0, "measure CPU and memory of this process on this machine")
	f.BoolVar(&c.json, "json", false, "write the result as JSON")
}

// loopFlags are the flags of loads that send requests in a loop.
func loopFlags(f *pflag.FlagSet, c *common) {
	f.Int64Var(&c.Total, "total", 10_000, "number of requests (without --duration)")
	f.DurationVar(&c.Duration, "duration", 0, "run for so long in place of --total")
	f.DurationVar(&c.Warmup, "warmup", 0, "load before --duration, not counted")
	f.Float64Var(&c.Rate, "rate", 0, "requests per second, sent whether or not earlier ones are answered and timed "+
		"from when they were due; 0: each client waits for its answer (closed loop)")
}

func keyFlags(f *pflag.FlagSet, c *common, space int64) {
	f.IntVar(&c.KeySize, "key-size", 24, "bytes in a key, prefix included")
	f.IntVar(&c.ValSize, "val-size", 256, "bytes in a value")
	f.Int64Var(&c.KeySpace, "key-space-size", space, "number of possible keys")
}

// report writes the result; the result of a run that failed is written too, if there is one.
func report(cmd *cobra.Command, c *common, res *load.Result, err error) error {
	if res.Command == "" {
		return err
	}
	if c.json {
		return errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(res), failed(res))
	}
	return errors.Join(err, res.WriteText(cmd.OutOrStdout()), failed(res))
}

func failed(res *load.Result) error {
	if res.Errors == 0 {
		return nil
	}
	return fmt.Errorf("%d requests failed, first: %s", res.Errors, res.FirstError)
}

// runner makes a RunE out of a load.
func runner(c *common,
	f func(context.Context, load.Options) (load.Result, error),
) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		res, err := f(cmd.Context(), c.Options)
		return report(cmd, c, &res, err)
	}
}

func nullCommand() *cobra.Command {
	var listen string
	var valSize int
	cmd := &cobra.Command{
		Use:   "null-server",
		Short: "Serve constants: the ceiling of this machine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lis, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), lis.Addr())
			return nullserver.Serve(cmd.Context(), lis, valSize)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address to serve on; printed once bound")
	cmd.Flags().IntVar(&valSize, "val-size", 256, "bytes in the values returned")
	return cmd
}
