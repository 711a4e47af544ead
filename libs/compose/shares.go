package compose

import (
	"runtime"

	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/fair"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// shareQuantum is what a keyspace of weight 1 may take at each visit of a gate, in bytes (see mvcc.Turn): a group of 64
// small writes, or a page of a list.
const shareQuantum = 64 << 10

// gates are where the keyspaces of a process take turns, by their weights. Inside a gate nobody waits for anything but
// the processor and the engine's reads: neither for a client nor for a commit. What may take long has a gate of its
// own, so that short work never waits for it.
type gates struct {
	groups  *fair.Gate // group commits, up to their commit
	heavies *fair.Gate // requests that visit much
	reads   *fair.Gate // steps of reads
	passes  *fair.Gate // catch-up passes of watches
	streams *fair.Gate // the making of what streams send
}

func newGates() *gates {
	cpus := runtime.GOMAXPROCS(0)
	return &gates{
		groups:  fair.NewGate(cpus, shareQuantum),
		heavies: fair.NewGate(cpus, shareQuantum),
		reads:   fair.NewGate(2*cpus, shareQuantum), // some wait for the disk
		passes:  fair.NewGate(cpus, shareQuantum),
		streams: fair.NewGate(cpus, shareQuantum),
	}
}

// newPodGates returns the gates of a pod. Its reads are round trips, so most of those inside a gate wait for an answer.
// The gates stand open until there are several keyspaces.
func newPodGates() *gates {
	cpus := runtime.GOMAXPROCS(0)
	g := &gates{
		groups:  fair.NewGate(8*cpus, shareQuantum),
		heavies: fair.NewGate(2*cpus, shareQuantum),
		reads:   fair.NewGate(32*cpus, shareQuantum),
		passes:  fair.NewGate(4*cpus, shareQuantum),
		streams: fair.NewGate(cpus, shareQuantum),
	}
	g.share(false)
	return g
}

func (g *gates) all() []*fair.Gate {
	return []*fair.Gate{g.groups, g.heavies, g.reads, g.passes, g.streams}
}

// share says whether there are several keyspaces that may want turns at the same time.
func (g *gates) share(several bool) {
	for _, one := range g.all() {
		one.Open(!several)
	}
}

// shares are the flows of a keyspace.
type shares struct{ groups, heavies, reads, passes, streams *fair.Flow }

// flows makes the flows of a keyspace.
func (g *gates) flows(weight uint32) *shares {
	return &shares{
		groups: g.groups.Flow(weight), heavies: g.heavies.Flow(weight), reads: g.reads.Flow(weight),
		passes: g.passes.Flow(weight), streams: g.streams.Flow(weight),
	}
}

// setWeight changes the weight of all flows.
func (s *shares) setWeight(weight uint32) {
	for _, f := range []*fair.Flow{s.groups, s.heavies, s.reads, s.passes, s.streams} {
		f.SetWeight(weight)
	}
}

// want makes a store take turns.
func (s *shares) want(o *mvcc.Options) {
	o.Groups, o.Heavies, o.Reads = s.groups, s.heavies, s.reads
}

// weigh changes the weight of a keyspace if it is open. Otherwise the next review does.
func (s *keyspaces) weigh(o *occupied, weight uint32) {
	select {
	case <-o.ready:
	default:
		return
	}
	if o.k == nil {
		return
	}
	s.mu.Lock()
	o.info.Row = proto.CloneOf(o.info.Row)
	o.info.Row.Weight = weight
	s.mu.Unlock()
	o.k.shares.setWeight(weight)
}
