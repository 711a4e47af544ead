package scale

import "math"

// Assumptions are what no benchmark of this repository has measured.
type Assumptions struct {
	LeaseSeconds   float64 // between two renewals of a node's lease by its kubelet
	OtherWrites    float64 // writes a second for each node: status, pods, endpoints, events
	ReadsPerWrite  float64 // reads that reach the store: caches answer the others
	NodesPerServer float64 // nodes for each kube-apiserver
	ServersMin     float64
	EntryBytes     float64 // of a log entry on the bus: the new and the previous version of an object
	Copies         float64 // that FoundationDB keeps
	PodCores       float64 // of a kv pod or a hub
	Busy           float64 // share of a core or process that is used at most in the long run
	CoreHour       float64 // dollars for a core and its memory, for an hour
}

// Usual are the assumptions of docs/scale.md, which says where each is from.
var Usual = Assumptions{
	LeaseSeconds: 10, OtherWrites: 0.05, ReadsPerWrite: 0.2, NodesPerServer: 5000, ServersMin: 3,
	EntryBytes: 2500, Copies: 3, PodCores: 4, Busy: 0.6, CoreHour: 0.05,
}

// Deployment is what a number of nodes needs.
type Deployment struct {
	Nodes, Servers         float64
	Writes, Reads, Events  float64 // a second; events over all kube-apiservers
	KVPods, Hubs           float64
	Processes, Proxies     float64 // of FoundationDB; those of them that are commit proxies
	HubCores               float64
	HubIngestShare         float64 // of a hub's cores that go into hearing of writes
	BusBytes, ServerEvents float64 // a second: bytes that leave NATS; events to one kube-apiserver
	Cores, DollarsPerHour  float64
}

// spare is how many pods of a kind there are beyond those that carry the load, so that one may die.
const spare = 1

// Compute is the model.
func Compute(in Inputs, a Assumptions, nodes float64) Deployment {
	d := Deployment{Nodes: nodes, Servers: max(a.ServersMin, math.Ceil(nodes/a.NodesPerServer))}
	d.Writes = nodes/a.LeaseSeconds + nodes*a.OtherWrites
	d.Reads = d.Writes * a.ReadsPerWrite
	d.ServerEvents = d.Writes
	d.Events = d.Writes * d.Servers
	pod := a.PodCores * a.Busy

	d.KVPods = math.Ceil((d.Writes*in.KVUpdate+d.Reads*in.KVRange)/pod) + spare
	// Each hub receives every write. What is left of its capacity serves events.
	ingest := d.Writes * in.HubWrite
	if left := pod - ingest; left > 0 {
		d.Hubs = math.Ceil(d.Events*in.Event/left) + spare
	} else {
		d.Hubs = math.Inf(1)
	}
	d.HubIngestShare = ingest / a.PodCores
	d.Proxies = math.Ceil(d.Writes / in.GroupSize / in.GroupsPerProxy / a.Busy)
	// Several processes share the work that one fdbserver with all roles did. Logs and storage servers do it once
	// for each copy.
	d.Processes = math.Ceil((d.Writes*in.FDBUpdate*a.Copies + d.Reads*in.FDBRange) / a.Busy)
	d.Processes = max(d.Processes, a.Copies)
	d.BusBytes = d.Writes * a.EntryBytes * d.Hubs
	d.Cores = (d.KVPods+d.Hubs)*a.PodCores + d.Processes
	d.DollarsPerHour = d.Cores * a.CoreHour
	return d
}
