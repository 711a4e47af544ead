package election

import (
	"math/rand/v2"
	"testing"
	"time"
)

// simStore is the two rows, with a version that every write moves.
type simStore struct {
	rows    rows
	ballotV int // version of the last write of <key>b
	bothV   int // of either row
	v       int
}

func (s *simStore) write(ballot, renewal []byte) {
	s.v++
	if ballot != nil {
		s.rows.ballot, s.ballotV = ballot, s.v
	}
	s.rows.renewal, s.bothV = renewal, s.v
}

// simNode is a candidate made of the pure parts: every step of it happens at a moment of true time, and it sees that
// moment on a clock of its own.
type simNode struct {
	id      int
	rate    float64
	offset  time.Duration
	ttl     time.Duration
	watch   observer
	leading bool
	tenure  tenure
	row     []byte
	count   uint64

	// The operation under way: what it read, at which version, and when it began.
	next    func(s *simStore, now time.Duration)
	wake    time.Duration
	begun   instant
	readV   int
	readOld rows
}

func (n *simNode) clock(now time.Duration) instant {
	return n.offset + time.Duration(float64(now)*n.rate)
}

func (n *simNode) holds(now time.Duration) bool { return n.leading && n.clock(now) < n.tenure.end() }

// TestCore runs the observer and the tenure of many candidates over a simulated store. Between any two steps of a
// candidate, its reads, commits and the arrival of their answers, lies a random time, often longer than the time to
// live. Commits conflict as those of a serializable store do; answers get lost. Clocks differ by up to what the
// margin allows. Never do two hold.
func TestCore(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	terms := 0
	for round := range uint64(60) {
		terms += simulate(t, rand.New(rand.NewPCG(seed, round)))
	}
	if terms < 1000 {
		t.Errorf("only %d terms", terms)
	}
	t.Logf("%d terms", terms)
}

func simulate(t *testing.T, r *rand.Rand) (terms int) {
	const steps = 4000
	s := &simStore{}
	nodes := make([]*simNode, 2+r.IntN(4))
	for i := range nodes {
		nodes[i] = &simNode{
			id: i, ttl: time.Duration(500+r.IntN(1000)) * time.Millisecond, offset: time.Duration(r.IntN(1e9)),
			// Two clocks differ by at most a fifth of the slower one's rate, as marginDivisor allows.
			rate: 0.9 + 0.17*r.Float64(),
		}
		nodes[i].next = nodes[i].look
	}
	pause := func(n *simNode) time.Duration {
		if r.IntN(25) == 0 {
			return time.Duration(r.Int64N(int64(3 * n.ttl)))
		}
		return time.Duration(r.Int64N(int64(n.ttl / 6)))
	}
	lost := func() bool { return r.IntN(10) == 0 }
	var now time.Duration
	for range steps {
		n := nodes[0]
		for _, o := range nodes {
			if o.wake < n.wake {
				n = o
			}
		}
		now = n.wake
		before := n.leading
		n.step(s, now, lost)
		if n.leading && !before {
			terms++
		}
		n.wake = now + 1 + pause(n)
		// Holds only changes from true to false between steps: it suffices to look at each.
		holders := 0
		for _, o := range nodes {
			if o.holds(now) {
				holders++
			}
		}
		if holders > 1 {
			t.Fatalf("%d hold at %v", holders, now)
		}
	}
	return terms
}

func (n *simNode) step(s *simStore, now time.Duration, lost func() bool) {
	if n.leading && !n.holds(now) {
		n.leading = false
		n.next = n.look
	}
	switch {
	case n.next != nil:
		next := n.next
		n.next = nil
		next(s, now)
	case n.leading && lost():
		n.leading, n.next = false, n.look
		if string(s.rows.ballot) == string(n.row) {
			b, _ := parseBallot(n.row)
			s.write(ballotRow{LeaderInfo: LeaderInfo{Ballot: b.Ballot}}.encode(),
				renewalRow(b.Ballot, n.count+releaseCount))
		}
	case n.leading:
		n.begin(s, now)
		n.next = func(s *simStore, now time.Duration) { n.renew(s, now, lost()) }
	default:
		if ok, _ := n.watch.claimable(n.clock(now)); ok {
			n.begin(s, now)
			n.next = func(s *simStore, now time.Duration) { n.claim(s, now, lost()) }
		} else {
			n.next = n.look
		}
	}
}

// look reads, and shows the observer what it has read when the answer arrives, a step later.
func (n *simNode) look(s *simStore, _ time.Duration) {
	read := s.rows
	n.next = func(_ *simStore, now time.Duration) { _ = n.watch.see(read, n.clock(now)) }
}

func (n *simNode) begin(s *simStore, now time.Duration) {
	n.begun, n.readV, n.readOld = n.clock(now), s.v, s.rows
}

func (n *simNode) claim(s *simStore, _ time.Duration, lost bool) {
	n.next = n.look
	if !n.readOld.equal(n.watch.seen) || s.bothV > n.readV {
		return
	}
	ballot := n.watch.ballot.Ballot + 1
	row := ballotRow{LeaderInfo: LeaderInfo{Holder: string(rune('a' + n.id)), Ballot: ballot}, ttl: n.ttl}.encode()
	s.write(row, renewalRow(ballot, 0))
	if lost {
		return
	}
	begun := n.begun
	n.next = func(*simStore, time.Duration) {
		n.leading, n.row, n.count, n.tenure = true, row, 0, tenure{ttl: n.ttl, begun: begun}
	}
}

func (n *simNode) renew(s *simStore, _ time.Duration, lost bool) {
	if string(n.readOld.ballot) != string(n.row) || s.ballotV > n.readV {
		n.leading, n.next = false, n.look
		return
	}
	b, _ := parseBallot(n.row)
	n.count++
	s.write(nil, renewalRow(b.Ballot, n.count))
	if lost {
		return
	}
	begun := n.begun
	n.next = func(_ *simStore, now time.Duration) { n.tenure = n.tenure.extended(begun, n.clock(now)) }
}

// TestObserver shows the rule on a few instants.
func TestObserver(t *testing.T) {
	row := ballotRow{LeaderInfo: LeaderInfo{Holder: "a", Ballot: 7}, ttl: time.Second}.encode()
	free := ballotRow{LeaderInfo: LeaderInfo{Ballot: 7}}.encode()
	held := func(count uint64) rows { return rows{row, renewalRow(7, count)} }
	var o observer
	see := func(r rows, at instant, want bool, wait time.Duration) {
		t.Helper()
		if err := o.see(r, at); err != nil {
			t.Fatal(err)
		}
		if ok, w := o.claimable(at); ok != want || w != wait {
			t.Errorf("at %v: %v, %v; want %v, %v", at, ok, w, want, wait)
		}
	}
	if ok, _ := o.claimable(time.Hour); ok {
		t.Error("claimable before anything was seen")
	}
	see(held(1), 10*time.Second, false, time.Second)
	see(held(1), 10*time.Second+900*time.Millisecond, false, 100*time.Millisecond)
	see(held(2), 11*time.Second, false, time.Second)
	see(held(2), 12*time.Second, true, 0)
	see(held(3), 13*time.Second, false, time.Second)
	see(rows{free, renewalRow(7, 3)}, 13*time.Second, true, 0)
	if err := o.see(rows{[]byte("?"), nil}, 14*time.Second); err == nil {
		t.Error("corrupt row accepted")
	}
	o = observer{}
	see(rows{}, 0, true, 0)
}

// TestTenure: a term that has ended is not extended, nor is one shortened.
func TestTenure(t *testing.T) {
	n := tenure{ttl: time.Second, begun: 5 * time.Second}
	for _, c := range []struct{ begun, now, want instant }{
		{5500 * time.Millisecond, 5600 * time.Millisecond, 6300 * time.Millisecond},
		{5500 * time.Millisecond, 5800 * time.Millisecond, 5800 * time.Millisecond},
		{4500 * time.Millisecond, 5600 * time.Millisecond, 5800 * time.Millisecond},
	} {
		if got := n.extended(c.begun, c.now).end(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
