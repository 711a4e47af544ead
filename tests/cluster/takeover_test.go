package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headwaterdb/headwater/tests/internal/leases"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"go.etcd.io/etcd/tests/v3/robustness/model"
)

// outages are the longest times that clients waited, by the kind of fault that caused it.
type outages map[string]*outage

type outage struct {
	faults  int
	length  time.Duration // of the fault itself
	watch   time.Duration // from the answer to a write until a watcher had its event
	answers time.Duration // without an answer to any request of any client
	leases  time.Duration // of one client without an answered keep-alive
}

func (o outages) get(name string) *outage {
	if o[name] == nil {
		o[name] = &outage{}
	}
	return o[name]
}

// String is a table for people.
func (o outages) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s %6s %8s %8s %8s %8s   (longest, ms)\n", "fault", "times", "lasted", "watch", "answers",
		"leases")
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		x := o[name]
		fmt.Fprintf(&b, "%-26s %6d %8d %8d %8d %8d\n", name, x.faults,
			x.length.Milliseconds(), x.watch.Milliseconds(), x.answers.Milliseconds(), x.leases.Milliseconds())
	}
	return b.String()
}

// blame attributes a wait to the first fault that began during it. If there was none, it names the last fault before
// the wait, or "none".
func blame(faults []injected, from, to time.Time) string {
	i, _ := slices.BinarySearchFunc(faults, from, func(f injected, at time.Time) int { return f.at.Compare(at) })
	switch {
	case i < len(faults) && faults[i].at.Before(to):
		return faults[i].name
	case i > 0:
		return faults[i-1].name
	}
	return "none"
}

func count(faults []injected) outages {
	o := outages{}
	for _, f := range faults {
		x := o.get(f.name)
		x.faults++
		x.length = max(x.length, f.over.Sub(f.at))
	}
	return o
}

// ofTraffic measures how long the faults made the load's clients wait.
func ofTraffic(h load.History, faults []injected) outages {
	o := count(faults)
	acked := map[int64]time.Duration{} // when the first answer with the revision came
	var answers []time.Duration
	for _, r := range h.Reports {
		for _, op := range r.KeyValue {
			resp := op.Output.(model.MaybeEtcdResponse)
			if resp.Error != "" {
				continue
			}
			at := time.Duration(op.Return)
			answers = append(answers, at)
			if old, ok := acked[resp.Revision]; !ok || at < old {
				acked[resp.Revision] = at
			}
		}
	}
	slices.Sort(answers)
	for i := 1; i < len(answers); i++ {
		x := o.get(blame(faults, h.Base.Add(answers[i-1]), h.Base.Add(answers[i])))
		x.answers = max(x.answers, answers[i]-answers[i-1])
	}
	for _, r := range h.Reports {
		for _, w := range r.Watch {
			// Other watches may start in the past, where nobody waits for events.
			if w.Request.Revision != 0 && w.Request.Key != "" {
				continue
			}
			for _, resp := range w.Responses {
				for _, e := range resp.Events {
					if at, ok := acked[e.Revision]; ok {
						x := o.get(blame(faults, h.Base.Add(at), h.Base.Add(resp.Time)))
						x.watch = max(x.watch, resp.Time-at)
					}
				}
			}
		}
	}
	return o
}

// ofLeases measures how long the faults delayed the clients that keep leases alive.
func ofLeases(lives []*leases.Life, faults []injected) outages {
	o := count(faults)
	for _, l := range lives {
		for _, p := range l.Pauses {
			x := o.get(blame(faults, p.From, p.To))
			x.leases = max(x.leases, p.To.Sub(p.From))
		}
	}
	return o
}
