package watch

import "time"

// Stats is a snapshot for metrics.
type Stats struct {
	Counters
	// HistoryReads and HistoryEntries are the part of what passes have read from the Log that came from a cache in
	// front of it (see Cached).
	HistoryReads, HistoryEntries uint64
	// Position is the last revision that was fanned out.
	Position int64
	Streams  int
	// Watchers counts all watchers. Lagging counts those that are served by catch-up passes or wait for one (etcd: slow
	// watchers).
	Watchers, Lagging int
	// WaitRing and WaitLog are the lagging watchers that wait for a pass from that source. The others wait for their
	// clients.
	WaitRing, WaitLog int
	// LagRevisions is how many revisions the furthest watcher that waits for a pass is behind. LagTime is the age of
	// the first revision that it has not got, counted from the start of the hub at the earliest.
	LagRevisions int64
	LagTime      time.Duration
	// Groups is the number of distinct ranges with options.
	Groups int
	// RingEntries and RingBytes are the content of the ring. RingFloor is the revision after which it is complete.
	RingEntries, RingBytes int
	RingFloor              int64
	// Pending counts events that match a watcher and that its stream has not taken yet, as far as they are in memory.
	Pending int
	// InboxBytes is the size of what waits between Apply and matching.
	InboxBytes int
}

// Stats returns the hub's present state. It looks at every stream, so call it no more often than metrics are scraped.
func (h *Hub) Stats() Stats {
	h.inboxMu.Lock()
	inbox := h.inboxBytes
	h.inboxMu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.core == nil {
		return Stats{InboxBytes: inbox}
	}
	st := h.core.stats(time.Since(h.birth))
	st.InboxBytes = inbox
	if c, ok := h.log.(Cached); ok {
		st.HistoryReads, st.HistoryEntries = c.Served()
	}
	return st
}

func (c *core) stats(now time.Duration) Stats {
	st := Stats{
		Counters: c.counters, Position: c.position, Streams: len(c.streams), Watchers: c.watchers, Lagging: c.unsynced,
		Groups: c.groups, RingEntries: c.ring.len(), RingBytes: c.ringBytes, RingFloor: c.ringFloor,
	}
	st.WaitRing, st.WaitLog = c.lag[fromRing].byNext.Len(), c.lag[fromLog].byNext.Len()
	for i := range c.lag {
		if w, ok := c.lag[i].byNext.Min(); ok {
			st.LagRevisions = max(st.LagRevisions, c.position-w.next+1)
			st.LagTime = max(st.LagTime, now-c.arrivals.since(w.next))
		}
	}
	for s := range c.streams {
		st.Pending += s.pendingEvents()
	}
	return st
}

func (s *streamState) pendingEvents() int {
	n := 0
	for i := range s.loaded.len() {
		if b := s.loaded.at(i); b.w.state == stateLoaded {
			n += len(b.events)
		}
	}
	for i := range s.ready.len() {
		sb := s.ready.at(i)
		n += sb.live.len() * len(sb.group.from(sb.since))
	}
	return n
}
