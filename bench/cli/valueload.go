package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headwaterdb/headwater/bench/valueload"
	"github.com/headwaterdb/headwater/bench/watchload"
)

// valueLoads are the loads of package valueload, which have flags of their own: they need the server's process.
func valueLoads() []*cobra.Command {
	remove := valueload.DefaultOptions()
	revoke, compact, update, memory := remove, remove, remove, remove
	revoke.Keys, revoke.ValSize = 2500, 600
	compact.Keys, compact.ValSize = 800, 128<<10
	update.Keys, update.ValSize = 200, 100<<10
	return []*cobra.Command{
		valueLoad("delete", "Delete many larger values with one request, beside another client's puts", remove,
			valueload.Delete),
		valueLoad("revoke", "Revoke a lease with many keys, beside another client's puts", revoke, valueload.Revoke),
		valueLoad("compact", "Compact many revisions of one key, beside another client's puts", compact,
			valueload.Compact),
		valueLoad("update-bytes", "Update larger values, and measure what is written to disk", update,
			valueload.Update),
		valueLoad("create-bytes", "Create larger values, and measure what is written to disk", update,
			valueload.Create),
		valueLoad("fill-values", "Write what delete-memory deletes", memory, valueload.Fill),
		valueLoad("delete-memory", "Delete what fill-values wrote, with a watcher, and measure the server's memory",
			memory, valueload.DeleteMemory),
	}
}

func valueLoad(name, short string, o valueload.Options,
	run func(context.Context, valueload.Options) (watchload.Result, error),
) *cobra.Command {
	cmd := reporting(name, short, func(ctx context.Context) (watchload.Result, error) { return run(ctx, o) })
	f := cmd.Flags()
	f.StringVar(&o.Endpoint, "endpoints", o.Endpoint, "gRPC endpoint, host:port")
	f.IntVar(&o.ServerPID, "server-pid", 0, "process id of the server, on this machine (required)")
	f.Uint64Var(&o.Seed, "seed", o.Seed, "seed of values")
	f.Int64Var(&o.Keys, "keys", o.Keys, "keys that are removed or updated; revisions that are compacted")
	f.IntVar(&o.ValSize, "val-size", o.ValSize, "bytes in a value")
	f.IntVar(&o.Conns, "conns", o.Conns, "connections of fills and updates")
	f.IntVar(&o.Clients, "clients", o.Clients, "concurrent requests of fills and updates")
	f.IntVar(&o.Repeat, "repeat", o.Repeat, "removals, each after a fill")
	f.DurationVar(&o.Rest, "rest", o.Rest, "rest between a fill and what is measured")
	f.DurationVar(&o.Warmup, "warmup", o.Warmup, "updates before the window")
	f.DurationVar(&o.Duration, "duration", o.Duration, "measured window of updates")
	f.DurationVar(&o.Settle, "settle", o.Settle,
		"how long the server must have written next to nothing to have written all")
	f.BoolVar(&o.PrevKV, "prevkv", o.PrevKV, "the watcher asks for previous values")
	f.StringVar(&o.Profile, "profile", "", "write a CPU profile of what is measured here; the server has /debug/pprof")
	return cmd
}
