//go:build foundationdb

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/rawfdb"
)

// rawPutCommand puts into FoundationDB without Headwater. The servers' flags mean nothing to it.
func rawPutCommand(c *common) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "raw-put", Short: "Transactions as one put makes them, straight to FoundationDB: one client", Args: cobra.NoArgs,
		RunE: runner(c, func(ctx context.Context, o load.Options) (load.Result, error) {
			return rawfdb.Put(ctx, rawfdb.Options{
				ClusterFile: file, Prefix: []byte(o.Prefix), KeySize: o.KeySize, ValSize: o.ValSize, Warmup: o.Warmup, Duration: o.Duration,
			})
		}),
	}
	loopFlags(cmd.Flags(), c)
	keyFlags(cmd.Flags(), c, freshKeys)
	cmd.Flags().StringVar(&file, "cluster-file", "", "FoundationDB's cluster file")
	return cmd
}

func init() { more = append(more, rawPutCommand) }
