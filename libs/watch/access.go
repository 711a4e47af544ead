package watch

import "context"

// Access decides what the client of a stream may watch.
type Access interface {
	// Ready is called before each watch is created, after the head has been read. Its error ends the stream.
	Ready(ctx context.Context) error
	// MayWatch returns "" if the client may watch a range, with an end as in requests. Otherwise it returns the reason
	// for which the watch is canceled. again says that the watch exists already. MayWatch is called with the hub's lock
	// held, so it must be quick and must not ask anybody.
	MayWatch(key, end string, again bool) (reason string)
}

// SetAccess sets the Access of all watches of the stream. It must be called before the first Create.
func (s *Stream) SetAccess(a Access) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.access = a
}

// Recheck asks every stream's Access again whether its watches may go on, and cancels those that may not. It returns at
// once. Entries that Apply gets from now on are not sent to a watch that may not go on by then.
func (h *Hub) Recheck() {
	h.inboxMu.Lock()
	h.recheckDue = true
	h.inboxMu.Unlock()
	signal(h.arrived)
}

// recheck does what Recheck has asked for, one stream at a time.
func (h *Hub) recheck() {
	var streams []*Stream
	h.locked(func() {
		for s := range h.core.streams {
			if s.access != nil {
				streams = append(streams, s)
			}
		}
	})
	for _, s := range streams {
		h.locked(func() { h.core.recheck(s) })
	}
}

// recheck cancels those watches of a stream that may not go on.
func (c *core) recheck(s *Stream) {
	for id, w := range s.watchers {
		if w.state == stateCompacted {
			continue
		}
		b := &w.sub.group.spec.bounds
		reason := s.access.MayWatch(b.request())
		if reason == "" {
			continue
		}
		c.forget(s, w)
		c.counters.Denied++
		c.control(s, control{id: id, rev: c.position, reason: reason, canceled: true})
	}
	c.refill(s)
}

// request returns the range as a request has it, for a watch that exists already.
func (r *bounds) request() (key, end string, again bool) { //nolint:unparam // MayWatch takes it too
	key, end = r.key(), r.end()
	switch r.shape {
	case shapeKey:
		return key, "", true
	case shapePrefix:
		end = prefixEnd(key)
	}
	if key == "" {
		key = "\x00"
	}
	if end == "" {
		end = "\x00"
	}
	return key, end, true
}
