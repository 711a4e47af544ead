package status

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

const (
	// censusMax bounds the keyspaces that a census counts. The lists by rate and size show only these.
	censusMax = 10_000
	// censusPage is how many keyspaces one request of a census asks for.
	censusPage = 500
	// censusEvery is the shortest time between two censuses.
	censusEvery = 10 * time.Second
	// censusTimeout bounds the time of a census.
	censusTimeout = time.Minute
	// censusPatience is how long a page waits for the first census.
	censusPatience = 2 * time.Second
)

// KeyspaceUsage is what a keyspace holds, and how busy the process is with it.
type KeyspaceUsage struct {
	Name            string `json:"name"`
	ID              uint64 `json:"id"`
	Open            bool   `json:"open"` // in this process
	Revision        int64  `json:"revision"`
	CompactRevision int64  `json:"compact_revision"`
	RemovedRevision int64  `json:"removed_revision"`
	Bytes           int64  `json:"bytes"`
	Streams         int64  `json:"streams"`
	Watches         int64  `json:"watches"`
	Reads           uint64 `json:"reads"`
	Writes          uint64 `json:"writes"`
	Refused         uint64 `json:"refused"`
	// ReadsPerSecond and WritesPerSecond are the rates in this process since the census before; nil: not known yet.
	ReadsPerSecond  *float64 `json:"reads_per_second,omitempty"`
	WritesPerSecond *float64 `json:"writes_per_second,omitempty"`
	// RemovedPerSecond is how many revisions all processes remove per second; nil: not known.
	RemovedPerSecond *float64 `json:"removed_per_second,omitempty"`
	Error            string   `json:"error,omitempty"`
}

// rate is the sum by which keyspaces are ordered.
func (u *KeyspaceUsage) rate() float64 {
	if u.ReadsPerSecond == nil {
		return -1
	}
	return *u.ReadsPerSecond + *u.WritesPerSecond
}

// counted is the result of a census. It does not change.
type counted struct {
	at        time.Time
	all       []KeyspaceUsage // by name
	more      bool            // there are others that have not been counted
	deletions []Deletion
	err       error
}

// census counts the keyspaces in the background while somebody asks for it.
type census struct {
	h *Handler

	mu      sync.Mutex
	last    *counted      // nil: none yet
	running chan struct{} // closed when the one under way has ended; nil: none is
}

func newCensus(h *Handler) *census { return &census{h: h} }

// get returns the last census. If that is old, get starts another. If there is none yet, get waits for the first, up to
// censusPatience; nil: there is still none.
func (c *census) get(ctx context.Context) *counted {
	c.mu.Lock()
	last := c.last
	if c.running == nil && (last == nil || c.h.o.Now().Sub(last.at) >= censusEvery) && c.h.closing.Err() == nil {
		c.begin()
	}
	running := c.running
	c.mu.Unlock()
	if last != nil || running == nil {
		return last
	}
	ctx, cancel := context.WithTimeout(ctx, censusPatience)
	defer cancel()
	select {
	case <-running:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// begin begins a census. The caller holds mu.
func (c *census) begin() {
	done := make(chan struct{})
	c.running = done
	before := c.last
	c.h.running.Go(func() {
		ctx, cancel := context.WithTimeout(c.h.closing, censusTimeout)
		defer cancel()
		found := c.count(ctx, before)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.last, c.running = found, nil
		close(done)
	})
}

// count counts.
func (c *census) count(ctx context.Context, before *counted) *counted {
	found := &counted{at: c.h.o.Now()}
	old := map[uint64]*KeyspaceUsage{}
	seconds := 0.0
	if before != nil {
		seconds = found.at.Sub(before.at).Seconds()
		for i := range before.all {
			old[before.all[i].ID] = &before.all[i]
		}
	}
	for after := ""; ; {
		page, err := c.h.o.Keyspaces.Usage(ctx, &adminv1.UsageRequest{After: after, Limit: censusPage})
		if err != nil {
			found.err = err
			break
		}
		for _, u := range page.GetUsage() {
			found.all = append(found.all, usageOf(u, old[u.GetId()], seconds))
		}
		if after = page.GetNext(); after == "" {
			break
		}
		if len(found.all) >= censusMax {
			found.more = true
			break
		}
	}
	if c.h.o.Deletions != nil && found.err == nil {
		found.deletions, found.err = c.h.o.Deletions(ctx)
	}
	slices.SortFunc(found.all, func(a, b KeyspaceUsage) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// usageOf returns the usage of a keyspace. old is what the census before has found, seconds ago.
func usageOf(u *adminv1.Usage, old *KeyspaceUsage, seconds float64) KeyspaceUsage {
	k := KeyspaceUsage{
		Name: u.GetName(), ID: u.GetId(), Open: u.GetActive(), Revision: u.GetRevision(),
		CompactRevision: u.GetCompactRevision(), RemovedRevision: u.GetRemovedRevision(), Bytes: u.GetBytes(),
		Streams: u.GetStreams(), Watches: u.GetWatches(), Reads: u.GetReads(), Writes: u.GetWrites(),
		Refused: u.GetRefused(), Error: u.GetError(),
	}
	if old == nil || seconds <= 0 {
		return k
	}
	since := func(now, then uint64) *float64 {
		if now < then { // it has been closed and opened since
			then = 0
		}
		r := float64(now-then) / seconds
		return &r
	}
	removed := max(float64(k.RemovedRevision-old.RemovedRevision), 0) / seconds
	k.RemovedPerSecond = &removed
	k.ReadsPerSecond, k.WritesPerSecond = since(k.Reads, old.Reads), since(k.Writes, old.Writes)
	return k
}

// orders are the orders in which keyspaces can be listed. Equal ones are ordered by name.
var orders = map[string]func(a, b *KeyspaceUsage) int{
	"name": func(_, _ *KeyspaceUsage) int { return 0 },
	"rate": func(a, b *KeyspaceUsage) int { return cmp.Compare(b.rate(), a.rate()) },
	"size": func(a, b *KeyspaceUsage) int { return cmp.Compare(b.Bytes, a.Bytes) },
	"watches": func(a, b *KeyspaceUsage) int {
		return cmp.Compare(b.Watches, a.Watches)
	},
}

// page returns a part of the keyspaces whose name contains part, in an order, and how many there are.
func (c *counted) page(order, part string, from, limit int) (page []KeyspaceUsage, total int) {
	if c == nil {
		return nil, 0
	}
	var all []*KeyspaceUsage
	for i := range c.all {
		if strings.Contains(c.all[i].Name, part) {
			all = append(all, &c.all[i])
		}
	}
	if by := orders[order]; by != nil {
		slices.SortStableFunc(all, by)
	}
	for i := from; i < min(from+limit, len(all)); i++ {
		page = append(page, *all[i])
	}
	return page, len(all)
}
