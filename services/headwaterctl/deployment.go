package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/version"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// podsCommand is the command pods.
func (c *ctl) podsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pods",
		Short: "Show the processes of the deployment: kind, version, what they lead, whether they are ready",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.call(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				a, err := adminv1.NewDeploymentClient(conn).Pods(ctx, &adminv1.PodsRequest{})
				if err != nil {
					return err
				}
				var records []record
				for _, p := range a.GetPods() {
					records = append(records, podRecord(p))
				}
				return c.print(a, records...)
			})
		},
	}
}

func podRecord(s *adminv1.PodStatus) record {
	p := s.GetPod()
	state := "ready"
	switch {
	case s.GetLate():
		state = fmt.Sprintf("no sign for %d s", s.GetSilentSeconds())
	case !p.GetReady():
		state = "not ready: " + p.GetReason()
	}
	return record{
		{"kind", p.GetKind()},
		{"name", p.GetName()},
		{"version", p.GetVersion()},
		{"url", p.GetUrl()},
		{"keyspace", p.GetKeyspace()},
		{"state", state},
		{"started", p.GetStarted().AsTime().Format("2006-01-02T15:04:05Z")},
		{"leads", strings.Join(short(s.GetLeads()), ", ")},
	}
}

// short joins shards of the same work: "lease shard 1" and "lease shard 4" become "lease shards 1 4".
func short(leads []string) (out []string) {
	const shard = " shard "
	shards := map[string][]string{}
	for _, l := range leads {
		if work, n, ok := strings.Cut(l, shard); ok {
			if shards[work] == nil {
				out = append(out, work+shard)
			}
			shards[work] = append(shards[work], n)
			continue
		}
		out = append(out, l)
	}
	for i, o := range out {
		if work, ok := strings.CutSuffix(o, shard); ok {
			out[i] = work + " shards " + strings.Join(shards[work], " ")
		}
	}
	return out
}

// electionsCommand is the command elections.
func (c *ctl) electionsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "elections", Short: "Show who leads what: compactor, tailer, shards of leases", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.call(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				a, err := adminv1.NewDeploymentClient(conn).Elections(ctx, &adminv1.ElectionsRequest{})
				if err != nil {
					return err
				}
				var records []record
				for _, e := range a.GetElections() {
					records = append(records, record{
						{"election", e.GetName()},
						{"keyspace", cmp.Or(e.GetKeyspace(), "-")},
						{"holder", cmp.Or(e.GetHolder(), "-")},
						{"ballot", e.GetBallot()},
					})
				}
				return c.print(a, records...)
			})
		},
	}
}

// versionCommand is the command version.
func (c *ctl) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the versions of this program and of the server", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.call(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
				a, err := adminv1.NewDeploymentClient(conn).Version(ctx, &adminv1.VersionRequest{})
				if err != nil {
					return err
				}
				return c.print(a, record{
					{"kind", a.GetKind()},
					{"name", a.GetName()},
					{"version", a.GetVersion()},
					{"etcd api", a.GetEtcdVersion()},
					{"go", a.GetGoVersion()},
					{"features", strings.Join(a.GetFeatures(), ",")},
					{"headwaterctl", own()},
				})
			})
		},
	}
}

// own returns the version of this program: its commit and Go's release.
func own() string { return version.Commit() + " " + runtime.Version() }
