package tracing

import (
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Limits of what is remembered.
const (
	writesMax     = 256 // sampled writes whose events may still be delivered
	deliveriesMax = 256 // deliveries whose writes may still end
	fanOutMax     = 16  // deliveries of one write that become spans
)

// write is a sampled request that has made a revision.
type write struct {
	rev       int64
	span      trace.SpanContext
	committed time.Time
	fanOut    int // spans so far
}

// delivery is a batch of a watch stream that has been sent.
type delivery struct {
	first, last int64
	at          time.Time
}

func (d delivery) has(rev int64) bool { return d.first <= rev && rev <= d.last }

// writes matches writes with the deliveries of their events. Either may be known first: a watcher may have an event
// before the request that wrote it has ended. The oldest are forgotten.
type writes struct {
	mu         sync.Mutex
	writes     ring[write]
	deliveries ring[delivery]
}

// wrote remembers a write, and returns the deliveries of it that are known already.
func (w *writes) wrote(one write) (before []delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.deliveries.all {
		if d.has(one.rev) && one.fanOut < fanOutMax {
			before = append(before, d)
			one.fanOut++
		}
	}
	w.writes.add(one, writesMax)
	return before
}

// delivered remembers a delivery, and returns the known writes that it contains.
func (w *writes) delivered(d delivery) (in []write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.writes.all {
		if one := &w.writes.all[i]; d.has(one.rev) && one.fanOut < fanOutMax {
			in = append(in, *one)
			one.fanOut++
		}
	}
	w.deliveries.add(d, deliveriesMax)
	return in
}

// ring keeps the newest elements.
type ring[T any] struct {
	all  []T
	next int // to be replaced, once there are enough
}

func (r *ring[T]) add(v T, most int) {
	if len(r.all) < most {
		r.all = append(r.all, v)
		return
	}
	r.all[r.next] = v
	r.next = (r.next + 1) % most
}
