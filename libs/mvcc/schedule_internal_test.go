package mvcc

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// anyCost is what a group may cost where that is not what is tested.
const anyCost = math.MaxInt64

func (s span) overlaps(o span) bool {
	return (toEnd(o.end) || bytes.Compare(s.key, o.end) < 0) && (toEnd(s.end) || bytes.Compare(o.key, s.end) < 0)
}

func (f *conflictSet) add(o *conflictSet) {
	f.keys = append(f.keys, o.keys...)
	f.ranges = append(f.ranges, o.ranges...)
}

func (f *conflictSet) overlaps(o *conflictSet) bool {
	for _, k := range f.keys {
		if slices.Contains(o.keys, k) {
			return true
		}
	}
	return f.rangesHit(o) || o.rangesHit(f)
}

// rangesHit says that a range of f covers a key of o or meets a range of o.
func (f *conflictSet) rangesHit(o *conflictSet) bool {
	for _, r := range f.ranges {
		for _, k := range o.keys {
			if r.has([]byte(k)) {
				return true
			}
		}
		if slices.ContainsFunc(o.ranges, r.overlaps) {
			return true
		}
	}
	return false
}

// plainSchedule is what schedule does, said plainly: it walks all requests that wait, in their order, and passes over
// those that touch a key of a group in flight in another lane or of a request that it has passed over.
type plainSchedule struct {
	reqs  []*request
	foots map[*request]*conflictSet
	busy  []*conflictSet
}

func (q *plainSchedule) pick(lane, limit, bytes int) (into []*request) {
	sum := 0
	var mine, passed conflictSet
	var kept []*request
	for i, r := range q.reqs {
		f := q.foots[r]
		blocked := passed.overlaps(f)
		for other, b := range q.busy {
			blocked = blocked || other != lane && b != nil && b.overlaps(f)
		}
		if !blocked && (len(into) >= limit || len(into) > 0 && sum+r.bytes > bytes) {
			kept = append(kept, q.reqs[i:]...)
			break
		}
		if blocked {
			passed.add(f)
			kept = append(kept, r)
			continue
		}
		mine.add(f)
		into = append(into, r)
		sum += r.bytes
	}
	q.reqs = kept
	if len(into) > 0 {
		q.busy[lane] = &mine
	}
	return into
}

// numbers names requests in the order in which they were put.
func numbers(reqs []*request, of map[*request]int) []int {
	var n []int
	for _, r := range reqs {
		n = append(n, of[r])
	}
	return n
}

// checkEmpty says what is left when nothing waits and nothing is in flight.
func (s *schedule) checkEmpty() error {
	if s.lines.Len() != 0 || len(s.wide) != 0 || s.spans != 0 || s.gate.Len() != 0 || len(s.ready) != 0 ||
		s.waiting != 0 || s.blocked != 0 {
		return fmt.Errorf("%d lines, %d wide with %d spans, %d gated, %d ready, %d waiting, %d keys blocked are left",
			s.lines.Len(), len(s.wide), s.spans, s.gate.Len(), len(s.ready), s.waiting, s.blocked)
	}
	return nil
}

// countBlocked counts the keys at which somebody waits for others.
func (s *schedule) countBlocked() int {
	n := 0
	s.lines.Ascend(func(l *line) bool {
		if l.head != nil && (l.head.next != nil || l.holder != free) {
			n++
		}
		return true
	})
	return n
}

// checkTimes checks that those that may go know since when, and that nobody else who waits does, unless it has been
// put back.
func (s *schedule) checkTimes(t *rapid.T) {
	for _, one := range s.ready {
		if r := one.req.times.ready; r == 0 || r > s.now {
			t.Fatalf("at %d one may go since %d", s.now, r)
		}
	}
	s.lines.Ascend(func(l *line) bool {
		for p := l.head; p != nil; p = p.next {
			if one := p.turn; one.index == none && one.place > 0 && one.req.times.ready != 0 {
				t.Fatalf("at %d one waits for others that could go at %d", s.now, one.req.times.ready)
			}
		}
		return true
	})
}

// TestScheduleLikePlainOne makes the same moves with both: each pick returns the same requests in the same order.
func TestScheduleLikePlainOne(t *testing.T) {
	const lanes = 3
	rapid.Check(t, func(t *rapid.T) {
		s := newSchedule(lanes, 1<<30)
		s.now = 1
		plain := &plainSchedule{foots: map[*request]*conflictSet{}, busy: make([]*conflictSet, lanes)}
		number := map[*request]int{}
		flying := make([][]*request, lanes)
		backed := make([]bool, lanes)
		pick := func(lane, limit, bytes int) {
			got, want := s.pick(lane, limit, bytes, anyCost), plain.pick(lane, limit, bytes)
			if diff := cmp.Diff(numbers(want, number), numbers(got, number)); diff != "" {
				t.Fatalf("lane %d: (-want +got)\n%s", lane, diff)
			}
			flying[lane] = got
		}
		land := func(lane int) {
			s.landed(lane)
			plain.busy[lane], flying[lane], backed[lane] = nil, nil, false
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				var m mutation = compaction(0)
				if rapid.IntRange(0, 9).Draw(t, "kind") > 0 {
					m = genMutation.Draw(t, "mutation")
				}
				r, foot := newRequest(m, rapid.IntRange(0, 5).Draw(t, "bytes")), conflictSetOf(m)
				number[r] = len(number) + 1
				r.turn = s.put(r, foot)
				plain.foots[r] = &foot
				plain.reqs = append(plain.reqs, r)
			},
			"pick": func(t *rapid.T) {
				lane := rapid.IntRange(0, lanes-1).Draw(t, "lane")
				if len(flying[lane]) > 0 {
					t.Skip("in flight")
				}
				pick(lane, rapid.IntRange(1, 6).Draw(t, "limit"), rapid.IntRange(1, 20).Draw(t, "bytes"))
			},
			"put back": func(t *rapid.T) {
				lane := rapid.IntRange(0, lanes-1).Draw(t, "lane")
				if len(flying[lane]) == 0 || backed[lane] {
					t.Skip("nothing to put back")
				}
				n := rapid.IntRange(0, len(flying[lane])-1).Draw(t, "kept")
				back := slices.Clone(flying[lane][n:])
				if len(back) > 1 && rapid.Bool().Draw(t, "one has ended") {
					back = back[1:]
				}
				backed[lane] = true
				s.putBack(back)
				plain.reqs = slices.Concat(back, plain.reqs)
			},
			"land": func(t *rapid.T) { land(rapid.IntRange(0, lanes-1).Draw(t, "lane")) },
			"remove": func(t *rapid.T) {
				if len(plain.reqs) == 0 {
					t.Skip("nothing waits")
				}
				i := rapid.IntRange(0, len(plain.reqs)-1).Draw(t, "which")
				if turn := plain.reqs[i].turn; len(turn.foot.ranges) > 0 && backed[turn.lane] {
					t.Skip("the plain one keeps the range of what has been put back until the lane has landed, and " +
						"need not")
				}
				if !s.remove(plain.reqs[i].turn) {
					t.Fatalf("%d waits and is not removed", number[plain.reqs[i]])
				}
				plain.reqs = slices.Delete(plain.reqs, i, i+1)
			},
			"": func(t *rapid.T) {
				if s.waiting != len(plain.reqs) {
					t.Fatalf("%d wait, want %d", s.waiting, len(plain.reqs))
				}
				if n := s.countBlocked(); s.blocked != n {
					t.Fatalf("%d keys are blocked, want %d", s.blocked, n)
				}
				s.checkTimes(t)
				s.now++
			},
		})
		for lane := range lanes {
			land(lane)
		}
		for len(plain.reqs) > 0 {
			pick(0, 5, 100)
			land(0)
		}
		if err := s.checkEmpty(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestScheduleGate: with a gate for few ranges, too, what touches a key in common goes in order and never to two
// lanes at once, what nobody waits for leaves, and something may go whenever nothing is in flight.
func TestScheduleGate(t *testing.T) {
	const lanes, requests = 3, 60
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	var pool []mutation // drawn once: it takes long
	for range 200 {
		pool = append(pool, genMutation.Example(r.IntN(1<<30)))
	}
	for range 200 {
		s := newSchedule(lanes, 1+r.IntN(4))
		foots := map[*request]*conflictSet{}
		number := map[*request]int{}
		var waiting []*request // in order
		flying := make([][]*request, lanes)
		for i := range requests {
			m := pool[r.IntN(len(pool))]
			req, foot := newRequest(m, 1), conflictSetOf(m)
			foots[req], number[req] = &foot, i
			waiting = append(waiting, req)
			req.turn = s.put(req, foot)
		}
		for len(waiting) > 0 {
			if r.IntN(8) == 0 {
				i := r.IntN(len(waiting))
				if !s.remove(waiting[i].turn) {
					t.Fatal("not removed")
				}
				waiting = slices.Delete(waiting, i, i+1)
				continue
			}
			lane := r.IntN(lanes)
			if flying[lane] != nil {
				s.landed(lane)
				flying[lane] = nil
				continue
			}
			idle := !slices.ContainsFunc(flying, func(f []*request) bool { return f != nil })
			got := s.pick(lane, 1+r.IntN(5), 100, anyCost)
			if len(got) == 0 && idle {
				t.Fatalf("%d requests wait and none may go", len(waiting))
			}
			for _, req := range got {
				i := slices.Index(waiting, req)
				for _, before := range waiting[:i] {
					if foots[before].overlaps(foots[req]) {
						t.Fatalf("%d has overtaken %d", number[req], number[before])
					}
				}
				for _, others := range flying {
					for _, other := range others {
						if foots[other].overlaps(foots[req]) {
							t.Fatalf("%d is in flight, and %d goes to another lane", number[other], number[req])
						}
					}
				}
				waiting = slices.Delete(waiting, i, i+1)
			}
			flying[lane] = got
		}
		for lane := range lanes {
			s.landed(lane)
		}
		if err := s.checkEmpty(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestScheduleSteps: what a request costs does not depend on how many wait, on one key or on many, with a range
// behind each hundredth, or all in the lines of one range.
func TestScheduleSteps(t *testing.T) {
	const lanes, group = 4, 32
	run := func(n int, request func(i int) mutation) float64 {
		s := newSchedule(lanes, spansMax)
		for i := range n {
			m := request(i)
			r := newRequest(m, 1)
			r.turn = s.put(r, conflictSetOf(m))
		}
		taken := 0
		for taken < n {
			for lane := range lanes {
				taken += len(s.pick(lane, group, 1<<20, anyCost))
			}
			for lane := range lanes {
				s.landed(lane)
			}
		}
		if err := s.checkEmpty(); err != nil {
			t.Fatal(err)
		}
		return float64(s.steps) / float64(n)
	}
	one := func(int) mutation { return &PutRequest{Key: []byte("hot")} }
	for _, c := range []struct {
		name    string
		request func(int) mutation
		most    float64 // steps for each request
	}{
		{"one key", one, 6},
		{"a key each", func(i int) mutation { return &PutRequest{Key: fmt.Append(nil, i)} }, 6},
		{"two keys", func(i int) mutation {
			return &TxnRequest{Success: []Op{
				{Put: &PutRequest{Key: []byte("hot")}}, {Put: &PutRequest{Key: fmt.Append(nil, i)}},
			}}
		}, 11},
		{"one range", func(int) mutation { return &DeleteRequest{Key: []byte("a"), End: []byte("z")} }, 3 * spansMax},
		{"a range for each hundredth", func(i int) mutation {
			if i%100 == 0 {
				return &DeleteRequest{Key: []byte("a"), End: []byte("z")}
			}
			return one(i)
		}, 3 * spansMax},
	} {
		few, many := run(500, c.request), run(10_000, c.request)
		t.Logf("%s: %.1f steps for each of 500, %.1f for each of 10,000", c.name, few, many)
		if many > c.most {
			t.Errorf("%s: %.1f steps for each request, want at most %v", c.name, many, c.most)
		}
	}
}
