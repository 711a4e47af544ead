package config

import (
	"math"
	"strings"
)

// Kind is a kind of process. It says which part of the API the process owns.
type Kind string

// The kinds of processes. A kind of pod has the name that binaries and flags use for it.
const (
	Standalone  Kind = "standalone"
	KV          Kind = "kv"
	WatchHub    Kind = "watchhub"
	LeaseKeeper Kind = "leasekeeper"
)

// Pods are the kinds of pods, which share a store and each own a part of the API.
var Pods = []Kind{KV, WatchHub, LeaseKeeper}

// IsPod says whether processes of the kind share one store. Otherwise each has a store of its own.
func (k Kind) IsPod() bool { return k != Standalone }

// Program is the name of the binary.
func (k Kind) Program() string {
	if k == Standalone {
		return "headwater"
	}
	return "headwater-" + string(k)
}

// about is the line of --help that says what a process is.
func (k Kind) about() string {
	if k == Standalone {
		return "Start a Headwater server: etcd's v3 API, in one process, on a directory of its own."
	}
	owns := map[Kind]string{KV: "reads, writes and maintenance", WatchHub: "watches", LeaseKeeper: "leases"}
	return "Start a " + string(
		k,
	) + " pod of a distributed Headwater: it answers etcd's whole v3 API, and owns " + owns[k] + "."
}

// kinds is a set of kinds.
type kinds uint8

// The sets that flags are for.
const (
	onStandalone kinds = 1 << iota
	onKV
	onWatchHub
	onLeaseKeeper
	onPods = onKV | onWatchHub | onLeaseKeeper
	onAll  = onStandalone | onPods
)

// set returns the set that has k alone.
func (k Kind) set() kinds {
	return map[Kind]kinds{Standalone: onStandalone, KV: onKV, WatchHub: onWatchHub, LeaseKeeper: onLeaseKeeper}[k]
}

// String names the set for documentation.
func (s kinds) String() string {
	switch s {
	case onAll:
		return "all"
	case onPods:
		return "pods"
	}
	var names []string
	for _, k := range append([]Kind{Standalone}, Pods...) {
		if s&k.set() != 0 {
			names = append(names, string(k))
		}
	}
	return strings.Join(names, ", ")
}

// streamsOfPods is the default bound of streams per connection to a pod. The connections come from a router and from
// other pods, and each carries the streams of many clients.
const streamsOfPods = math.MaxUint32
