package watch

// invariants checks the core's own books.
func (m *sim) invariants() {
	c := m.c
	unsynced, watchers, behind := 0, 0, 0
	members := map[*sub]int{}
	live := map[*sub]int{}
	for s := range c.streams {
		loaded, sBehind, sUnsynced, compacted := 0, 0, 0, 0
		for id, w := range s.watchers {
			watchers++
			if w.id != id || w.sub != nil && w.sub.stream != s || (w.sub == nil) != (w.state == stateCompacted) {
				m.fatalf("watcher %d under id %d", w.id, id)
			}
			if w.state != stateCompacted {
				members[w.sub]++
			}
			switch w.state {
			case stateLive:
				if live[w.sub]++; w.sub.live.at(int(w.index)) != w {
					m.fatalf("live watcher %d not in its sub", id)
				}
			case stateBehind:
				sBehind++
				sUnsynced++
				if q := &c.lag[w.source()]; !q.byNext.Has(w) || !q.byAge.Has(w) {
					m.fatalf("watcher %d behind but not queued", id)
				}
			case stateParked:
				sUnsynced++
				if s.parked[w.index] != w {
					m.fatalf("watcher %d not parked", id)
				}
			case stateLoaded:
				sUnsynced++
			case stateCompacted:
				compacted++
			default:
				m.fatalf("watcher %d in state %d", id, w.state)
			}
		}
		for i := range s.loaded.len() {
			loaded += s.loaded.at(i).bytes
		}
		if loaded != s.loadedBytes || sBehind != s.behind || sUnsynced != s.unsynced || compacted != s.compacted {
			m.fatalf("stream's counts: loaded %d %d behind %d %d unsynced %d %d compacted %d %d",
				loaded, s.loadedBytes, sBehind, s.behind, sUnsynced, s.unsynced, compacted, s.compacted)
		}
		if len(s.parked) > 0 && s.behind == 0 && s.loadedBytes == 0 {
			m.fatalf("%d parked with nothing to unpark them", len(s.parked))
		}
		unsynced += sUnsynced
		behind += sBehind
	}
	if unsynced != c.unsynced || watchers != c.watchers || behind != c.behind() ||
		behind != c.lag[fromRing].byAge.Len()+c.lag[fromLog].byAge.Len() {
		m.fatalf("counts: unsynced %d %d watchers %d %d behind %d %d", unsynced, c.unsynced, watchers, c.watchers,
			behind, c.behind())
	}
	groups := map[*group]bool{}
	for sb, n := range members {
		g := sb.group
		groups[g] = true
		idle := false
		for i := g.idle; i != nil; i = i.next {
			idle = idle || i == sb
		}
		if g.subOf(sb.stream) != sb || int(sb.refs) != n || sb.live.len() != live[sb] ||
			idle != (live[sb] > 0 && !sb.dirty()) {
			m.fatalf("sub out of place: %+v with %d watchers, %d live, idle %t", sb, n, live[sb], idle)
		}
		found := false
		for x := c.matcher.get(g.spec.bounds); x != nil; x = x.next {
			found = found || x == g
		}
		if !found {
			m.fatalf("group %+v is not in the matcher", g.spec)
		}
		if ev := g.from(0); g.recent != nil && (len(ev) == 0 || ev[0].Rev() <= c.ringFloor) {
			m.fatalf("group %+v holds an event that the ring has dropped", g.spec)
		}
	}
	if len(groups) != c.groups {
		m.fatalf("%d groups counted, %d found", c.groups, len(groups))
	}
	c.lag[fromLog].byNext.Ascend(func(w *watcher) bool {
		if w.next > c.ringFloor {
			m.fatalf("watcher %d at %d waits for the log, but the ring begins at %d", w.id, w.next, c.ringFloor+1)
		}
		return true
	})
	if c.ringBytes > c.opts.RingBytes && c.ring.len() > 1 {
		m.fatalf("ring of %d bytes", c.ringBytes)
	}
}
