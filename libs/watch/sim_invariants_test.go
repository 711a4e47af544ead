package watch

// invariants checks the core's own books.
func (m *sim) invariants() {
	c := m.c
	unsynced, watchers, behind := 0, 0, 0
	members := map[*group]int{}
	for s := range c.streams {
		loaded, sBehind, sUnsynced, compacted := 0, 0, 0, 0
		for id, w := range s.watchers {
			watchers++
			if w.id != id || w.stream != s {
				m.fatalf("watcher %d under id %d", w.id, id)
			}
			if w.state != stateCompacted {
				members[w.group]++
			}
			switch w.state {
			case stateLive:
				if sb := s.subs[w.group]; sb == nil || sb.live[w.index] != w {
					m.fatalf("live watcher %d not in its sub", id)
				}
			case stateBehind:
				sBehind++
				sUnsynced++
				if !c.behindByNext.Has(w) || !c.behindByAge.Has(w) {
					m.fatalf("watcher %d behind but not queued", id)
				}
			case stateParked:
				sUnsynced++
				if s.parked[w.index] != w {
					m.fatalf("watcher %d not parked", id)
				}
			case stateLoaded:
				sUnsynced++
				loaded += w.batch.bytes
			case stateCompacted:
				compacted++
			default:
				m.fatalf("watcher %d in state %d", id, w.state)
			}
		}
		if loaded != s.loadedBytes || sBehind != s.behind || sUnsynced != s.unsynced || compacted != s.compacted {
			m.fatalf("stream's counts: loaded %d %d behind %d %d unsynced %d %d compacted %d %d",
				loaded, s.loadedBytes, sBehind, s.behind, sUnsynced, s.unsynced, compacted, s.compacted)
		}
		if len(s.parked) > 0 && s.behind == 0 && s.loadedBytes == 0 {
			m.fatalf("%d parked with nothing to unpark them", len(s.parked))
		}
		for g, sb := range s.subs {
			if g.subs[sb.index] != sb || sb.dirty != (sb.index >= g.idle) || len(sb.live) == 0 {
				m.fatalf("sub out of place: %+v", sb)
			}
		}
		unsynced += sUnsynced
		behind += sBehind
	}
	if unsynced != c.unsynced || watchers != c.watchers || behind != c.behindByNext.Len() || behind != c.behindByAge.Len() {
		m.fatalf("counts: unsynced %d %d watchers %d %d behind %d %d", unsynced, c.unsynced, watchers, c.watchers, behind, c.behindByNext.Len())
	}
	for sp, g := range c.groups {
		if g.watchers != members[g] || sp != g.spec {
			m.fatalf("group %+v has %d members", sp, members[g])
		}
		if n := g.recent.len(); n > 0 && g.recent.at(0).Rev() <= c.ringFloor {
			m.fatalf("group %+v holds an event that the ring has dropped", sp)
		}
	}
	if c.ringBytes > c.opts.RingBytes && c.ring.len() > 1 {
		m.fatalf("ring of %d bytes", c.ringBytes)
	}
}
