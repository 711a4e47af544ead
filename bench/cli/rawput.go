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
	var lanes, group int
	var bare bool
	cmd := &cobra.Command{
		Use: "raw-put", Short: "Transactions as puts make them, straight to FoundationDB", Args: cobra.NoArgs,
		RunE: runner(c, func(ctx context.Context, o load.Options) (load.Result, error) {
			return rawfdb.Put(ctx, rawfdb.Options{
				ClusterFile: file, Prefix: []byte(o.Prefix), KeySize: o.KeySize, ValSize: o.ValSize,
				Lanes: lanes, Group: group, Bare: bare, Warmup: o.Warmup, Duration: o.Duration,
			})
		}),
	}
	loopFlags(cmd.Flags(), c)
	keyFlags(cmd.Flags(), c, freshKeys)
	cmd.Flags().StringVar(&file, "cluster-file", "", "FoundationDB's cluster file")
	cmd.Flags().IntVar(&lanes, "lanes", 1, "transactions under way at a time")
	cmd.Flags().IntVar(&group, "group", 1, "puts of a transaction")
	cmd.Flags().BoolVar(&bare, "bare", false, "a put is a row with the value, and reads nothing: a bulk load")
	return cmd
}

func init() { more = append(more, rawPutCommand) }
