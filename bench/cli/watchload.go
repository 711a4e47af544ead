package cli

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/headwaterdb/headwater/bench/watchload"
)

// watchLoads are the loads of package watchload. They have flags of their own: their client is not clientv3 and they
// need the server's process.
func watchLoads() []*cobra.Command {
	defaults := watchload.DefaultOptions()
	memory, reconnect, stalled, idle, isolation, catchUp := defaults, defaults, defaults, defaults, defaults, defaults
	memory.Streams, memory.Watchers = 1000, 100_000
	reconnect.Streams, reconnect.Watchers = 100, 10_000
	idle.Watchers, idle.Rate, idle.Beside = 10, 500, 100_000
	catchUp.Conns, catchUp.Streams, catchUp.Watchers = 1, 1, 1
	isolation.Watchers, isolation.Rate, isolation.Beside, isolation.BesideStreams, isolation.History =
		100, 500, 10_000, 100, 1_000_000
	return []*cobra.Command{
		watchLoad("watch-fan", "Watch one prefix many times and put under it: events per second, CPU per event, "+
			"latency", defaults, watchload.Fan),
		watchLoad("watch-memory", "Open many watchers and measure the server's memory", memory, watchload.Memory),
		watchLoad("watch-reconnect", "Write a history, then let all watchers come back at once from before it",
			reconnect, watchload.Reconnect),
		watchLoad("watch-stalled", "Put without and with watchers that never read", stalled, watchload.Stalled),
		watchLoad("watch-idle", "Measure events without and with many watchers of other prefixes", idle,
			watchload.Idle),
		watchLoad("watch-catch-up", "Write while processes stand still, then let them go on: events per second of "+
			"watchers that catch up", catchUp, watchload.CatchUp),
		watchLoad("watch-isolation", "Measure events without and with a stalled stream, a watcher far behind, many "+
			"creations and lists", isolation, watchload.Isolation),
	}
}

func watchLoad(name, short string, o watchload.Options,
	run func(context.Context, watchload.Options) (watchload.Result, error),
) *cobra.Command {
	cmd := reporting(name, short, func(ctx context.Context) (watchload.Result, error) { return run(ctx, o) })
	f := cmd.Flags()
	f.StringVar(&o.Endpoint, "endpoints", o.Endpoint,
		"gRPC endpoint, host:port; several with commas: the watchers' connections take turns")
	f.StringVar(&o.Writes, "write-endpoints", "", "the same for writers; default: --endpoints")
	f.IntVar(&o.ServerPID, "server-pid", 0, "process id of the server, on this machine (required)")
	f.Uint64Var(&o.Seed, "seed", o.Seed, "seed of values")
	f.IntVar(&o.Conns, "conns", o.Conns, "connections of watchers")
	f.IntVar(&o.Streams, "streams", o.Streams, "watch streams, over all connections")
	f.IntVar(&o.Watchers, "watchers", o.Watchers, "watchers, over all streams")
	f.BoolVar(&o.PrevKV, "prevkv", o.PrevKV, "ask for the previous value")
	f.BoolVar(&o.OwnKey, "own-key", o.OwnKey, "each watcher watches one of the keys that are put")
	f.BoolVar(&o.Sparse, "sparse", o.Sparse, "the server's revisions have gaps")
	f.IntSliceVar(&o.Pause, "pause-pids", nil, "processes that stand still while the history of a catch-up is written")
	f.IntVar(&o.WriteConns, "write-conns", o.WriteConns, "connections of writers")
	f.IntVar(&o.Clients, "clients", o.Clients, "most puts at once")
	f.Float64Var(&o.Rate, "rate", o.Rate,
		"puts per second of an open loop; 0: each client puts when its last put is answered")
	f.IntVar(&o.ValSize, "val-size", o.ValSize, "bytes in a value; the first 8 hold the time")
	f.Int64Var(&o.Keys, "keys", o.Keys, "keys that are put, in turn")
	f.DurationVar(&o.Warmup, "warmup", o.Warmup, "load before the window")
	f.DurationVar(&o.Duration, "duration", o.Duration, "measured window")
	f.IntVar(&o.Beside, "beside", o.Beside, "stalled, idle or new watchers whose effect is measured")
	f.IntVar(&o.BesideStreams, "beside-streams", o.BesideStreams, "their streams")
	f.Int64Var(&o.History, "history", o.History, "revisions that come-back watchers have missed, or that one is behind")
	f.DurationVar(&o.Settle, "settle", o.Settle, "rest before memory is read")
	f.BoolVar(&o.Pprof, "pprof", o.Pprof,
		"the server has /debug/pprof: measure its memory after a garbage collection too")
	return cmd
}

// reporting is a command that runs a load and writes its result, as JSON with --json.
func reporting(name, short string, run func(context.Context) (watchload.Result, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			res, err := run(cmd.Context())
			switch {
			case err != nil:
				return err
			case asJSON:
				return json.NewEncoder(cmd.OutOrStdout()).Encode(res)
			}
			return res.WriteText(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the result as JSON")
	return cmd
}
