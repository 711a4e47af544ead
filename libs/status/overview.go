package status

import (
	"cmp"
	"context"
	"slices"
	"time"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// topKeyspaces is how many keyspaces of each order the overview shows.
const topKeyspaces = 8

// Overview is the content of the first page and of overview.json. Numbers of this process come from its metrics. Those
// of other pods come from the rows that they write every few seconds.
type Overview struct {
	Time time.Time `json:"time"`
	// WindowSeconds is the time over which rates and latencies are computed. 0: rates are not known yet, and latencies
	// count from the start.
	WindowSeconds float64   `json:"window_seconds"`
	Process       Process   `json:"process"`
	Store         Store     `json:"store"`
	Rates         Rates     `json:"rates"`
	History       []Rates   `json:"history,omitempty"` // rates of before, the oldest first
	Watches       Watches   `json:"watches"`
	Leases        Leases    `json:"leases"`
	Latencies     []Latency `json:"latencies"`
	Pods          []Pod     `json:"pods"`
	// Vacant are places that one pod should have but none has.
	Vacant       []string      `json:"vacant,omitempty"`
	Alarms       []Alarm       `json:"alarms"`
	Certificates []Certificate `json:"certificates"`
	Work         []Work        `json:"work"`
	Keyspaces    KeyspacesPart `json:"keyspaces"`
	// Troubles are what an operator should look at, in words.
	Troubles []string `json:"troubles"`
	// Problems are errors of the overview itself.
	Problems []string `json:"problems,omitempty"`
}

// Process is the process that answers.
type Process struct {
	Kind        string   `json:"kind"`
	Name        string   `json:"name"`
	Version     string   `json:"version"`
	EtcdVersion string   `json:"etcd_version"`
	GoVersion   string   `json:"go_version"`
	Features    []string `json:"features"`
	// HasLeader is false while the process cannot reach its store.
	HasLeader bool `json:"has_leader"`
}

// Store is the first keyspace of the process, and its disk where it has one.
type Store struct {
	Revision        int64 `json:"revision"`
	CompactRevision int64 `json:"compact_revision"` // -1: never compacted
	Keys            int64 `json:"keys"`             // -1: not known
	Bytes           int64 `json:"bytes"`
	BytesInUse      int64 `json:"bytes_in_use"`
	Quota           int64 `json:"quota"`           // 0: none
	DiskFree        int64 `json:"disk_free_bytes"` // -1: not known
	DiskFull        bool  `json:"disk_full"`
}

// Rates are per second; nil: not known yet. Calls are those to all keyspaces of the process, events of the first.
type Rates struct {
	Reads  *float64 `json:"reads"`
	Writes *float64 `json:"writes"`
	Events *float64 `json:"events"`
	Errors *float64 `json:"errors"` // calls that have failed
}

// Watches are those of this process.
type Watches struct {
	Streams    int64   `json:"streams"`
	Watchers   int64   `json:"watchers"`
	Slow       int64   `json:"slow"`
	Pending    int64   `json:"pending_events"`
	LagSeconds float64 `json:"lag_seconds"` // of the one furthest behind
}

// Leases are those of this process.
type Leases struct {
	Active  int64    `json:"active"`
	Granted *float64 `json:"granted_per_second"`
	Renewed *float64 `json:"renewed_per_second"`
	Expired *float64 `json:"expired_per_second"`
}

// Pod is a process of the deployment.
type Pod struct {
	Kind          string    `json:"kind"`
	Name          string    `json:"name"`
	URL           string    `json:"url"`
	Version       string    `json:"version"`
	Started       time.Time `json:"started"`
	Ready         bool      `json:"ready"`
	Reason        string    `json:"reason,omitempty"` // why it is not
	Late          bool      `json:"late"`             // it has not been heard of for too long
	SilentSeconds int64     `json:"silent_seconds"`
	Leads         []string  `json:"leads"`
	Numbers       *Numbers  `json:"numbers,omitempty"` // nil: it has reported none
}

// Numbers are what a pod has reported about itself: PodNumbers in keyspace.proto.
type Numbers struct {
	Reads         uint64 `json:"reads"`
	Writes        uint64 `json:"writes"`
	Streams       int64  `json:"streams"`
	Watchers      int64  `json:"watchers"`
	Slow          int64  `json:"slow_watchers"`
	LagMillis     int64  `json:"lag_millis"`
	Leases        int64  `json:"leases"`
	KeyspacesOpen int64  `json:"keyspaces_open"`
	Revision      int64  `json:"revision"`
	Hub           bool   `json:"hub"`
	HubRevision   int64  `json:"hub_revision"`
}

// Alarm is an active alarm.
type Alarm struct {
	Type   string `json:"type"`
	Member string `json:"member"`
}

// Certificate is a kind of TLS file that expires.
type Certificate struct {
	Use  string  `json:"use"`
	Kind string  `json:"kind"`
	Days float64 `json:"days"` // until it expires; negative: it has
}

// Work is something in the background that takes a while.
type Work struct {
	Kind     string `json:"kind"` // compaction, deletion, reclaim
	Keyspace string `json:"keyspace,omitempty"`
	// Done is how much of Total is done, in Unit. Total is 0 if it is not known.
	Done  int64  `json:"done"`
	Total int64  `json:"total,omitempty"`
	Unit  string `json:"unit,omitempty"`
	// PerSecond is the speed; nil: not known.
	PerSecond *float64   `json:"per_second,omitempty"`
	Since     *time.Time `json:"since,omitempty"`
}

// KeyspacesPart are the busiest or largest keyspaces.
type KeyspacesPart struct {
	Counted bool            `json:"counted"` // false: there has been no census yet
	Total   int             `json:"total"`
	More    bool            `json:"more"` // there are others beyond Total
	Open    int64           `json:"open"` // in this process, beside the first
	AgeSecs float64         `json:"age_seconds"`
	ByRate  []KeyspaceUsage `json:"by_rate"`
	BySize  []KeyspaceUsage `json:"by_size"`
}

// overview gathers everything.
func (h *Handler) overview(ctx context.Context) *Overview {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, past := h.meter.look()
	o := &Overview{Time: s.to.at, WindowSeconds: s.seconds}
	o.measure(s, past)
	note := func(what string, err error) {
		if err != nil {
			o.Problems = append(o.Problems, what+": "+err.Error())
		}
	}
	v, err := h.o.Deployment.Version(ctx, &adminv1.VersionRequest{})
	note("the version", err)
	o.Process = Process{
		Kind: v.GetKind(), Name: v.GetName(), Version: v.GetVersion(), EtcdVersion: v.GetEtcdVersion(),
		GoVersion: v.GetGoVersion(), Features: v.GetFeatures(), HasLeader: s.to.number("etcd_server_has_leader") == 1,
	}
	pods, err := h.o.Deployment.Pods(ctx, &adminv1.PodsRequest{})
	note("pods", err)
	o.Pods = podsOf(pods)
	elections, err := h.o.Deployment.Elections(ctx, &adminv1.ElectionsRequest{})
	note("elections", err)
	for _, e := range elections.GetElections() {
		if e.GetHolder() == "" {
			o.Vacant = append(o.Vacant, e.GetName())
		}
	}
	c := h.census.get(ctx)
	if c != nil {
		note("keyspaces", c.err)
	}
	o.keyspaces(c, s)
	o.work(c, s)
	o.judge()
	return o
}

// podsOf are the pods, by kind and name.
func podsOf(a *adminv1.PodsResponse) []Pod {
	all := []Pod{}
	for _, p := range a.GetPods() {
		row := p.GetPod()
		pod := Pod{
			Kind: row.GetKind(), Name: row.GetName(), URL: row.GetUrl(), Version: row.GetVersion(),
			Started: row.GetStarted().AsTime(), Ready: row.GetReady(), Reason: row.GetReason(), Late: p.GetLate(),
			SilentSeconds: p.GetSilentSeconds(), Leads: p.GetLeads(),
		}
		if n := row.GetNumbers(); n != nil {
			pod.Numbers = &Numbers{
				Reads: n.GetReads(), Writes: n.GetWrites(), Streams: n.GetStreams(), Watchers: n.GetWatchers(),
				Slow: n.GetSlowWatchers(), LagMillis: n.GetLagMillis(), Leases: n.GetLeases(),
				KeyspacesOpen: n.GetKeyspacesOpen(), Revision: n.GetRevision(), Hub: n.GetHub(),
				HubRevision: n.GetHubRevision(),
			}
		}
		all = append(all, pod)
	}
	slices.SortStableFunc(all, func(a, b Pod) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// keyspaces fills in the results of the census.
func (o *Overview) keyspaces(c *counted, s span) {
	k := &o.Keyspaces
	k.Open = max(s.to.number("headwater_keyspaces_open")-1, 0)
	if c == nil {
		return
	}
	k.Counted, k.More, k.AgeSecs = true, c.more, o.Time.Sub(c.at).Seconds()
	k.ByRate, k.Total = c.page("rate", "", 0, topKeyspaces)
	k.BySize, _ = c.page("size", "", 0, topKeyspaces)
}
