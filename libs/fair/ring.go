package fair

// Ring decides whose turn is next. Costs are in any unit, and at least 1.
type Ring struct {
	quantum int64
	first   *Member // of the flows that wait, in a circle; nil: none
	members int
	tickets int
	skipped int    // members visited in a row whose tickets cost more than they may take
	epoch   uint64 // counts the times at which nobody waited any more
}

// Member is a flow as a Ring sees it. The zero value has weight 1.
type Member struct {
	weight     int64
	deficit    int64 // what the flow may take; negative: what it owes
	epoch      uint64
	head, tail *Ticket
	next, prev *Member // in the ring; nil: it does not wait
	visited    bool    // the present visit has given it its quantum
}

// Ticket waits for a turn.
type Ticket struct {
	// least is what the turn costs at least. most is what it takes if the flow may take as much.
	least, most int64
	got         int64
	of          *Member // nil: it does not wait
	next, prev  *Ticket
	ready       chan struct{} // of a Gate
}

// NewRing returns an empty Ring. At each visit a flow of weight 1 may take quantum more.
func NewRing(quantum int64) *Ring { return &Ring{quantum: max(quantum, 1), epoch: 1} }

// Len is the number of tickets that wait.
func (r *Ring) Len() int { return r.tickets }

func (m *Member) share() int64 { return max(m.weight, 1) }

// Push puts a ticket behind the others of its flow. The turn costs least, or up to most if the flow may take as much by
// then.
func (r *Ring) Push(m *Member, t *Ticket, least, most int64) {
	least = max(least, 1)
	*t = Ticket{least: least, most: max(most, least), of: m, ready: t.ready}
	if m.head == nil {
		r.enter(m)
		m.head = t
	} else {
		m.tail.next, t.prev = t, m.tail
	}
	m.tail = t
	r.tickets++
}

// enter puts a flow at the end of the ring.
func (r *Ring) enter(m *Member) {
	if m.epoch != r.epoch {
		m.deficit, m.epoch = 0, r.epoch
	}
	m.deficit, m.visited = min(m.deficit, 0), false
	r.members++
	if r.first == nil {
		r.first, m.next, m.prev = m, m, m
		return
	}
	last := r.first.prev
	last.next, m.prev, m.next, r.first.prev = m, last, r.first, m
}

// leave takes a flow out of the ring. When nobody waits any more, all debts are forgotten.
func (r *Ring) leave(m *Member) {
	r.members--
	r.skipped = 0
	if r.members == 0 {
		r.first = nil
		r.epoch++
	} else {
		m.prev.next, m.next.prev = m.next, m.prev
		if r.first == m {
			r.first = m.next
		}
	}
	m.next, m.prev, m.visited = nil, nil, false
}

// Remove takes out a ticket that no longer wants a turn. false: the ticket does not wait.
func (r *Ring) Remove(t *Ticket) bool {
	if t.of == nil {
		return false
	}
	r.unlink(t)
	return true
}

func (r *Ring) unlink(t *Ticket) {
	m := t.of
	if t.prev == nil {
		m.head = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		m.tail = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.of, t.next, t.prev = nil, nil, nil
	r.tickets--
	if m.head == nil {
		r.leave(m)
	}
}

// Next takes out the ticket whose turn it is, and returns what it may take. nil: no ticket waits.
func (r *Ring) Next() (t *Ticket, got int64) {
	for r.first != nil {
		m := r.first
		if !m.visited {
			m.visited = true
			m.deficit += m.share() * r.quantum
		}
		if t := m.head; t.least <= m.deficit {
			got := min(t.most, m.deficit)
			m.deficit -= got
			t.got = got
			r.skipped = 0
			r.unlink(t)
			return t, got
		}
		m.visited = false
		r.first = m.next
		if r.skipped++; r.skipped >= r.members {
			r.skip()
		}
	}
	return nil, 0
}

// skip does all at once the rounds in which every flow would only get its quanta.
func (r *Ring) skip() {
	r.skipped = 0
	rounds := int64(-1)
	for m, i := r.first, 0; i < r.members; m, i = m.next, i+1 {
		step := m.share() * r.quantum
		if need := (m.head.least-m.deficit+step-1)/step - 1; rounds < 0 || need < rounds {
			rounds = need
		}
	}
	if rounds <= 0 {
		return
	}
	for m, i := r.first, 0; i < r.members; m, i = m.next, i+1 {
		m.deficit += rounds * m.share() * r.quantum
	}
}

// Charge subtracts from a flow what a turn has cost beyond its ticket, or returns what it has not used. It has no
// effect while nobody waits.
func (r *Ring) Charge(m *Member, cost int64) {
	if r.members == 0 {
		return
	}
	if m.epoch != r.epoch {
		m.deficit, m.epoch = 0, r.epoch
	}
	m.deficit -= cost
	if m.head == nil { // a flow that does not wait keeps its debts but no savings
		m.deficit = min(m.deficit, 0)
	}
}
