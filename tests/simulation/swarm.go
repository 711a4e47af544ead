package simulation

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// manyFaults is more than there are in any run.
const manyFaults = 1000

// limitNames are the limits that the program knows, in the order of its own list.
var limitNames = []string{"keys", "bytes", "leases", "request_bytes", "writes_per_second"}

// SwarmPlan is what a campaign runs with a seed that nothing else is asked of: a few parts out of all, of random sizes,
// mostly for a short time. Such a run takes a fraction of a full one, and finds what the other parts would have hidden
// or kept from happening; what needs several parts is met by the seeds that have them. One seed of 16 has everything.
func SwarmPlan(seed uint64) Plan {
	if draw(seed, "everything").IntN(16) == 0 {
		p := FullPlan(seed)
		p.Duration, p.Old = swarmDuration(seed), oneIn(seed, "old", 6)
		return p
	}
	p := Plan{Seed: seed, Duration: swarmDuration(seed), Faults: swarmFaults(seed), Calm: oneIn(seed, "calm", 8)}
	// A part of a seed is drawn by itself: another part that is added later changes no other's choices.
	few := 2 + draw(seed, "parts").IntN(4)
	for i, part := range swarmParts {
		if oneIn(seed, fmt.Sprint("part ", part.name), few) || i == draw(seed, "at least").IntN(len(swarmParts)) {
			part.add(&p, draw(seed, part.name))
		}
	}
	p.Old = oneIn(seed, "old", 6)
	p.SetBack = oneIn(seed, "set back", 8)
	p.Disks = oneIn(seed, "disks", 3)
	return p
}

// swarmPart is what clients do that a run may have or lack.
type swarmPart struct {
	name string
	add  func(p *Plan, r *rand.Rand)
}

var swarmParts = []swarmPart{
	{"traffic", addTraffic},
	{"leases", func(p *Plan, r *rand.Rand) { p.Leases = 2 + r.IntN(7) }},
	{"users", func(p *Plan, r *rand.Rand) { p.Users = 1 + r.IntN(2) }},
	{"limits", func(p *Plan, r *rand.Rand) {
		p.Limited = 1 + r.IntN(3)
		some := slices.Clone(limitNames)
		r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		p.Limits = strings.Join(some[:1+r.IntN(2)], ",")
	}},
	{"counts", func(p *Plan, r *rand.Rand) { p.Counts = 1 + r.IntN(4) }},
	{"backups", func(p *Plan, r *rand.Rand) { // they are judged by the traffic's log
		addTraffic(p, r)
		p.Backups = true
	}},
	{"archive", func(p *Plan, r *rand.Rand) { // it is judged by the same log
		addTraffic(p, r)
		p.Archive = true
	}},
	{"moves", func(p *Plan, _ *rand.Rand) { p.Moves = true }},
}

func addTraffic(p *Plan, r *rand.Rand) {
	p.Clients = max(p.Clients, 1+r.IntN(4))
	p.Watchers = max(p.Watchers, r.IntN(5))
}

// swarmDuration is mostly short; now and then it is as long as a full plan's.
func swarmDuration(seed uint64) time.Duration {
	r := draw(seed, "duration")
	switch n := r.IntN(20); {
	case n == 0:
		return 8 * time.Second
	case n < 7:
		return 2*time.Second + time.Duration(r.IntN(2000))*time.Millisecond
	default:
		return 500*time.Millisecond + time.Duration(r.IntN(1500))*time.Millisecond
	}
}

// swarmFaults is how many faults there are at most: none, few, or what there is time for.
func swarmFaults(seed uint64) int {
	r := draw(seed, "faults")
	switch r.IntN(8) {
	case 0:
		return 0
	case 1, 2:
		return 1 + r.IntN(3)
	default:
		return manyFaults
	}
}

// draw is a source of choices of a seed's plan for one purpose.
func draw(seed uint64, purpose string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte("plan " + purpose))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

func oneIn(seed uint64, purpose string, n int) bool { return draw(seed, purpose).IntN(n) == 0 }
