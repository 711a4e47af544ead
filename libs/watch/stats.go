package watch

func (c *core) stats() Stats {
	st := Stats{
		Counters: c.counters, Position: c.position, Streams: len(c.streams), Watchers: c.watchers, Lagging: c.unsynced,
		Groups: len(c.groups), RingEntries: c.ring.len(), RingBytes: c.ringBytes, RingFloor: c.ringFloor,
	}
	if w, ok := c.behindByNext.Min(); ok {
		st.LagRevisions = c.position - w.next + 1
	}
	for s := range c.streams {
		st.Pending += s.pendingEvents()
	}
	return st
}

func (s *streamState) pendingEvents() int {
	n := 0
	for i := range s.loaded.len() {
		if w := s.loaded.at(i); w.state == stateLoaded {
			n += len(w.batch.events)
		}
	}
	for i := range s.ready.len() {
		sb := s.ready.at(i)
		recent := &sb.group.recent
		from := recent.search(func(e *Event) bool { return e.Rev() >= sb.since })
		n += len(sb.live) * (recent.len() - from)
	}
	return n
}
