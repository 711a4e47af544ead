package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// sortKeys are the orders of usage. Numbers are in falling order.
var sortKeys = map[string]func(a, b *adminv1.Usage) int{
	"name":     func(a, b *adminv1.Usage) int { return cmp.Compare(a.GetName(), b.GetName()) },
	"bytes":    byNumber((*adminv1.Usage).GetBytes),
	"keys":     byNumber((*adminv1.Usage).GetKeys),
	"leases":   byNumber((*adminv1.Usage).GetLeases),
	"revision": byNumber((*adminv1.Usage).GetRevision),
	"calls":    byNumber((*adminv1.Usage).GetCalls),
	"streams":  byNumber((*adminv1.Usage).GetStreams),
	"watches":  byNumber((*adminv1.Usage).GetWatches),
	"reads":    byNumber((*adminv1.Usage).GetReads),
	"writes":   byNumber((*adminv1.Usage).GetWrites),
	"refused":  byNumber((*adminv1.Usage).GetRefused),
}

func byNumber[N int64 | uint64](of func(*adminv1.Usage) N) func(a, b *adminv1.Usage) int {
	return func(a, b *adminv1.Usage) int { return cmp.Compare(of(b), of(a)) }
}

// usageCommand is the command usage.
func (c *ctl) usageCommand() *cobra.Command {
	var sortBy string
	var count bool
	cmd := &cobra.Command{
		Use: "usage [NAME…]", Short: "Show what keyspaces hold, and what the server does for them now",
		ValidArgsFunction: c.completeNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			order, ok := sortKeys[sortBy]
			if !ok {
				return usageError{fmt.Errorf("--sort-by %q: need one of %s", sortBy, strings.Join(sortNames(), ", "))}
			}
			count = count || sortBy == "keys" || sortBy == "leases"
			run := c.call
			if count {
				run = c.stream // counting may take long
			}
			return run(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				all, err := usage(ctx, adminv1.NewKeyspacesClient(conn), names, count)
				if err != nil {
					return err
				}
				slices.SortStableFunc(all.Usage, order)
				var records []record
				for _, u := range all.GetUsage() {
					records = append(records, usageRecord(u))
				}
				return c.print(all, records...)
			})
		},
	}
	cmd.Flags().StringVar(&sortBy, "sort-by", "name", "order of the lines: one of "+strings.Join(sortNames(), ", "))
	cmd.Flags().BoolVar(&count, "count", false, "count keys and leases, which reads a row for each")
	_ = cmd.RegisterFlagCompletionFunc("sort-by",
		cobra.FixedCompletions(sortNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func sortNames() []string { return slices.Sorted(maps.Keys(sortKeys)) }

// usage asks for the usage of keyspaces. If no names are given, it asks for all.
func usage(ctx context.Context, k adminv1.KeyspacesClient, names []string, count bool) (*adminv1.UsageResponse, error) {
	all := &adminv1.UsageResponse{}
	for r := (&adminv1.UsageRequest{Names: names, CountKeys: count}); ; {
		page, err := k.Usage(ctx, r)
		if err != nil {
			return nil, err
		}
		all.Usage = append(all.Usage, page.GetUsage()...)
		if r.After = page.GetNext(); r.After == "" {
			return all, nil
		}
	}
}

func usageRecord(u *adminv1.Usage) record {
	var keys, leases any = "-", "-"
	if u.GetKeysCounted() {
		keys, leases = u.GetKeys(), u.GetLeases()
	}
	var calls any = u.GetCalls()
	if u.GetFirst() {
		calls = "-" // not counted
	}
	return record{
		{"name", u.GetName()},
		{"revision", u.GetRevision()},
		{"compacted", u.GetCompactRevision()},
		{
			"bytes",
			u.GetBytes(),
		},
		{"keys", keys},
		{"leases", leases},
		{"open", u.GetActive()},
		{"calls", calls},
		{"streams", u.GetStreams()},
		{"watches", u.GetWatches()},
		{"reads", u.GetReads()},
		{"writes", u.GetWrites()},
		{"refused", u.GetRefused()},
		{"error", u.GetError()},
	}
}
