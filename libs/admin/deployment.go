package admin

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/keyspace"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

const (
	// electionRows bounds the rows below a prefix that are read to find elections.
	electionRows = 10_000
	// lateBeats is the number of missed beats after which a pod is late.
	lateBeats = 3
)

// About is what a process reports about itself.
type About struct {
	Kind, Name, Version, EtcdVersion string
	Features                         string // of its first keyspace, comma-separated
}

// Coordination is where elections have their rows.
type Coordination struct {
	Keyspace string // "": they are of the deployment
	Prefix   []byte
}

// deployment is the service Deployment.
type deployment struct {
	adminv1.UnimplementedDeploymentServer
	Options
	now func() time.Time
}

// Version implements adminv1.DeploymentServer.
func (d *deployment) Version(context.Context, *adminv1.VersionRequest) (*adminv1.VersionResponse, error) {
	a := d.Host.About()
	return &adminv1.VersionResponse{
		Kind: a.Kind, Name: a.Name, Version: a.Version, EtcdVersion: a.EtcdVersion, GoVersion: runtime.Version(),
		Features: strings.FieldsFunc(a.Features, func(r rune) bool { return r == ',' }),
	}, nil
}

// Elections implements adminv1.DeploymentServer.
func (d *deployment) Elections(ctx context.Context, _ *adminv1.ElectionsRequest) (*adminv1.ElectionsResponse, error) {
	a := &adminv1.ElectionsResponse{}
	snap, err := d.Engine.Snapshot(ctx)
	if err != nil {
		return nil, grpcErr(err)
	}
	defer snap.Close()
	for _, c := range d.Host.Coordination() {
		all, err := election.List(ctx, snap, c.Prefix, electionRows)
		if err != nil {
			return nil, grpcErr(err)
		}
		for _, e := range all {
			a.Elections = append(a.Elections, &adminv1.Election{
				Name: electionName(
					bytes.TrimPrefix(e.Key, c.Prefix),
				),
				Holder:   e.Holder,
				Ballot:   e.Ballot,
				Keyspace: c.Keyspace,
			})
		}
	}
	return a, nil
}

// electionName returns the name of an election for people: its work and, if that has shards, the shard.
func electionName(key []byte) string {
	if n := len(key) - 2; n >= 0 && key[n] == 's' && bytes.HasSuffix(key[:n], []byte("/")) {
		return fmt.Sprintf("%s shard %d", strings.TrimSuffix(string(key[:n]), "/"), key[n+1])
	}
	return strings.TrimSuffix(string(key), "/")
}

// Pods implements adminv1.DeploymentServer.
func (d *deployment) Pods(ctx context.Context, _ *adminv1.PodsRequest) (*adminv1.PodsResponse, error) {
	var pods []*keyspacev1.Pod
	if alone := d.Host.Alone(); alone != nil {
		alone.Seen = timestamppb.New(d.now())
		pods = append(pods, alone)
	} else {
		var err error
		if pods, err = keyspace.Pods(ctx, d.Engine, d.Root); err != nil {
			return nil, grpcErr(err)
		}
	}
	elections, err := d.Elections(ctx, nil)
	if err != nil {
		return nil, err
	}
	a := &adminv1.PodsResponse{}
	for _, p := range pods {
		a.Pods = append(a.Pods, d.status(p, elections.GetElections()))
	}
	return a, nil
}

// status returns what is known about a pod.
func (d *deployment) status(p *keyspacev1.Pod, elections []*adminv1.Election) *adminv1.PodStatus {
	silent := max(d.now().Sub(p.GetSeen().AsTime()), 0)
	s := &adminv1.PodStatus{Pod: p, SilentSeconds: int64(silent.Seconds())}
	s.Late = p.GetEvery() != nil && silent > lateBeats*p.GetEvery().AsDuration()
	for _, e := range elections {
		if h := e.GetHolder(); h != "" && (h == p.GetAddress() || h == p.GetHolder()) && leadsAs(p, e) {
			s.Leads = append(s.Leads, e.GetName())
		}
	}
	slices.Sort(s.Leads)
	return s
}

// leadsAs says whether an election can be one of a pod's. Elections of a keyspace are those of its own pods.
func leadsAs(p *keyspacev1.Pod, e *adminv1.Election) bool {
	return e.GetKeyspace() == "" || e.GetKeyspace() == p.GetKeyspace()
}
