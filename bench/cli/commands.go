package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/headwaterdb/headwater/bench/load"
)

const (
	freshKeys  = 1_000_000_000 // a key space that no run exhausts
	filledKeys = 10_000        // the default key space of loads that read
)

func sequentialFlag(f *pflag.FlagSet, c *common) {
	f.BoolVar(&c.Sequential, "sequential-keys", false, "use keys in order in place of random ones")
}

func consistencyFlag(f *pflag.FlagSet, dst *string) {
	f.StringVar(dst, "consistency", "l", "linearizable (l) or serializable (s)")
}

func serializable(consistency string) (bool, error) {
	switch consistency {
	case "l":
		return false, nil
	case "s":
		return true, nil
	}
	return false, fmt.Errorf("consistency must be l or s, not %q", consistency)
}

func putCommand(c *common) *cobra.Command {
	cmd := &cobra.Command{Use: "put", Short: "Put keys", Args: cobra.NoArgs, RunE: runner(c, load.Put)}
	loopFlags(cmd.Flags(), c)
	keyFlags(cmd.Flags(), c, freshKeys)
	sequentialFlag(cmd.Flags(), c)
	cmd.Flags().IntVar(&c.Keyspaces, "keyspaces", 0,
		"write to so many keyspaces in turn, bench0, bench1, …, which are there; 0: name none")
	return cmd
}

func fillCommand(c *common) *cobra.Command {
	var perTxn int
	cmd := &cobra.Command{
		Use: "fill", Short: "Put each key of the key space once and count them: the set-up of loads that read",
		Args: cobra.NoArgs,
		RunE: runner(c, func(ctx context.Context, o load.Options) (load.Result, error) {
			o.Total = 1 // not used by Fill, but must be valid
			return load.Fill(ctx, o, perTxn)
		}),
	}
	keyFlags(cmd.Flags(), c, filledKeys)
	cmd.Flags().IntVar(&perTxn, "txn-ops", 10, "puts in a transaction; 1 sends plain puts")
	return cmd
}

func rangeCommand(c *common) *cobra.Command {
	var ro load.RangeOptions
	var consistency string
	cmd := &cobra.Command{
		Use:   "range [key [end]]",
		Short: "Range over a key, an interval, a prefix, or (without arguments) one random key of the filled key space",
		Args:  cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if ro.Serializable, err = serializable(consistency); err != nil {
				return err
			}
			if len(args) > 0 {
				ro.Key = args[0]
			}
			if len(args) > 1 {
				ro.End = args[1]
			}
			res, err := load.Range(cmd.Context(), c.Options, ro)
			return report(cmd, c, &res, err)
		},
	}
	f := cmd.Flags()
	loopFlags(f, c)
	keyFlags(f, c, filledKeys)
	sequentialFlag(f, c)
	consistencyFlag(f, &consistency)
	f.Int64Var(&ro.Limit, "limit", 0, "most results of a request; 0: no limit")
	f.BoolVar(&ro.CountOnly, "count-only", false, "return only the count")
	f.BoolVar(&ro.KeysOnly, "keys-only", false, "return only keys")
	f.BoolVar(&ro.WholePrefix, "key-is-prefix", false, "take the key as a prefix (etcd's tool: --prefix)")
	cmd.MarkFlagsMutuallyExclusive("count-only", "keys-only")
	return cmd
}

func listCommand(c *common) *cobra.Command {
	var limit int64
	cmd := &cobra.Command{
		Use: "list", Args: cobra.NoArgs,
		Short: "List the filled key space as kube-apiserver does: pages pinned at a revision, with exact counts",
		RunE: runner(c, func(ctx context.Context, o load.Options) (load.Result, error) {
			return load.List(ctx, o, limit)
		}),
	}
	loopFlags(cmd.Flags(), c)
	keyFlags(cmd.Flags(), c, filledKeys)
	cmd.Flags().Int64Var(&limit, "limit", 1000, "keys in a page")
	return cmd
}

func countCommand(c *common) *cobra.Command {
	var limit int64
	cmd := &cobra.Command{
		Use: "count", Short: "Count the filled key space, or read its first page with the count", Args: cobra.NoArgs,
		RunE: runner(c, func(ctx context.Context, o load.Options) (load.Result, error) {
			return load.Count(ctx, o, limit)
		}),
	}
	loopFlags(cmd.Flags(), c)
	keyFlags(cmd.Flags(), c, filledKeys)
	cmd.Flags().Int64Var(&limit, "limit", 0, "keys in the page; 0: the count alone")
	return cmd
}

func mixedCommand(c *common) *cobra.Command {
	var ratio float64
	var consistency string
	cmd := &cobra.Command{
		Use: "mixed", Short: "Range and put single keys of the filled key space", Args: cobra.NoArgs,
		RunE: runner(c, func(ctx context.Context, o load.Options) (load.Result, error) {
			s, err := serializable(consistency)
			if err != nil {
				return load.Result{}, err
			}
			return load.Mixed(ctx, o, ratio, s)
		}),
	}
	loopFlags(cmd.Flags(), c)
	keyFlags(cmd.Flags(), c, filledKeys)
	sequentialFlag(cmd.Flags(), c)
	consistencyFlag(cmd.Flags(), &consistency)
	cmd.Flags().Float64Var(&ratio, "rw-ratio", 4, "ranges for each put")
	return cmd
}

func txnPutCommand(c *common) *cobra.Command {
	var perTxn int
	cmd := &cobra.Command{
		Use: "txn-put", Short: "Put several keys in a transaction", Args: cobra.NoArgs,
		RunE: runner(c, func(ctx context.Context, o load.Options) (load.Result, error) {
			return load.TxnPut(ctx, o, perTxn)
		}),
	}
	loopFlags(cmd.Flags(), c)
	keyFlags(cmd.Flags(), c, freshKeys)
	sequentialFlag(cmd.Flags(), c)
	cmd.Flags().IntVar(&perTxn, "txn-ops", 1, "puts in a transaction")
	return cmd
}

func txnMixedCommand(c *common) *cobra.Command {
	var to load.TxnMixedOptions
	var consistency string
	cmd := &cobra.Command{
		Use: "txn-mixed [key]", Args: cobra.MaximumNArgs(1),
		Short: "Transactions of one range, over the key or all keys, and transactions of one put",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if to.Serializable, err = serializable(consistency); err != nil {
				return err
			}
			if len(args) > 0 {
				to.Key = args[0]
			}
			res, err := load.TxnMixed(cmd.Context(), c.Options, to)
			return report(cmd, c, &res, err)
		},
	}
	loopFlags(cmd.Flags(), c)
	keyFlags(cmd.Flags(), c, filledKeys)
	sequentialFlag(cmd.Flags(), c)
	consistencyFlag(cmd.Flags(), &consistency)
	cmd.Flags().StringVar(&to.End, "end-key", "", "end of the range")
	cmd.Flags().Int64Var(&to.Limit, "limit", 1000, "most results of a range; 0: no limit")
	cmd.Flags().Float64Var(&to.Ratio, "rw-ratio", 1, "reading transactions for each writing one")
	return cmd
}

func createCommand(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use: "create", Short: "Create fresh keys as kube-apiserver does: put if mod_revision = 0", Args: cobra.NoArgs,
		RunE: runner(c, load.Create),
	}
	loopFlags(cmd.Flags(), c)
	keyFlags(cmd.Flags(), c, freshKeys)
	return cmd
}

func updateCommand(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use: "update", Args: cobra.NoArgs,
		Short: "Update keys of the filled key space as kube-apiserver does: put if mod_revision = r, else get",
		RunE:  runner(c, load.Update),
	}
	loopFlags(cmd.Flags(), c)
	keyFlags(cmd.Flags(), c, filledKeys)
	return cmd
}

func leaseCommand(c *common) *cobra.Command {
	var lo load.LeaseOptions
	cmd := &cobra.Command{
		Use: "lease-keepalive", Short: "Keep one lease per client alive", Args: cobra.NoArgs,
		RunE: runner(c, func(ctx context.Context, o load.Options) (load.Result, error) {
			o.KeySpace, o.KeySize = 1, len(o.Prefix)+1 // no keys, but the options must be valid
			return load.LeaseKeepAlive(ctx, o, lo)
		}),
	}
	loopFlags(cmd.Flags(), c)
	cmd.Flags().Int64Var(&lo.TTL, "ttl", 100, "time to live of the leases, in seconds")
	cmd.Flags().BoolVar(&lo.Stream, "stream", false, "keep one stream per client open in place of one per request")
	return cmd
}
