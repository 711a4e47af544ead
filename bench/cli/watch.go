package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headwaterdb/headwater/bench/load"
)

func watchCommand(c *common) *cobra.Command {
	var wo load.WatchOptions
	cmd := &cobra.Command{
		Use: "watch", Short: "Open watches, put as fast as the clients can, count the events", Args: cobra.NoArgs,
		RunE: runner(c, func(ctx context.Context, o load.Options) (load.Result, error) {
			return load.Watch(ctx, o, wo, "watch")
		}),
	}
	watchFlags(cmd, c, &wo, "watch-per-stream", 100, 0)
	f := cmd.Flags()
	f.Int64Var(&wo.WatchedKeys, "watched-key-total", 1, "number of keys that are watched and put")
	f.Int64Var(&c.KeySpace, "key-space-size", filledKeys, "number of possible keys")
	sequentialFlag(f, c)
	return cmd
}

func watchLatencyCommand(c *common) *cobra.Command {
	var wo load.WatchOptions
	cmd := &cobra.Command{
		Use: "watch-latency", Short: "Put at a fixed rate and time each event from when its put was due",
		Args: cobra.NoArgs,
		RunE: runner(c, func(ctx context.Context, o load.Options) (load.Result, error) {
			wo.WatchedKeys, o.KeySpace = 1, filledKeys
			return load.Watch(ctx, o, wo, "watch-latency")
		}),
	}
	watchFlags(cmd, c, &wo, "watchers-per-stream", 10, 100)
	return cmd
}

// watchFlags are the flags of both watch loads. perStreamName is the flag for watches per stream, which etcd's tool too
// names differently in the two loads.
func watchFlags(cmd *cobra.Command, c *common, wo *load.WatchOptions, perStreamName string, perStream int,
	rate float64,
) {
	f := cmd.Flags()
	f.IntVar(&wo.Streams, "streams", 10, "number of watch streams")
	f.IntVar(&wo.PerStream, perStreamName, perStream, "watches on each stream")
	f.BoolVar(&wo.PrevKV, "prevkv", false, "ask for the previous value")
	f.BoolVar(&wo.WholePrefix, "watch-prefix", false, "watch the prefix of all keys in place of one key each")
	f.Float64Var(&c.Rate, "put-rate", rate, "puts per second; 0: each of --clients puts when its last put is answered")
	f.Int64Var(&c.Total, "put-total", 1000, "number of puts")
	f.IntVar(&c.KeySize, "key-size", 32, "bytes in a key, prefix included")
	f.IntVar(&c.ValSize, "val-size", 32, "bytes in a value; the first 8 hold the time")
}
