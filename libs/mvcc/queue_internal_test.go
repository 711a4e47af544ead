package mvcc

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// genMutation draws requests over few keys, so that they meet.
var genMutation = rapid.Custom(func(t *rapid.T) mutation {
	key := rapid.SampledFrom([][]byte{{0}, []byte("a"), []byte("a\x00"), []byte("b"), []byte("c"), {0xff}})
	end := rapid.SampledFrom([][]byte{nil, {0}, []byte("a\x00"), []byte("b"), []byte("c")})
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		return &PutRequest{Key: key.Draw(t, "key")}
	case 1:
		return &DeleteRequest{Key: key.Draw(t, "key"), End: end.Draw(t, "end")}
	}
	inner := &TxnRequest{Success: []Op{{Range: &RangeRequest{
		Key: key.Draw(t, "nested"), End: end.Draw(t, "nestedEnd"),
	}}}}
	return &TxnRequest{
		Compares: []Compare{{Key: key.Draw(t, "cmp"), End: end.Draw(t, "cmpEnd")}},
		Success:  []Op{{Put: &PutRequest{Key: key.Draw(t, "then")}}, {Txn: inner}},
		Failure:  []Op{{Delete: &DeleteRequest{Key: key.Draw(t, "else"), End: end.Draw(t, "elseEnd")}}},
	}
})

// touches lists the keys of a small universe that a request reads or writes, by the definition of ranges.
func touches(m mutation) map[string]bool {
	universe := []string{"\x00", "\x00\x00", "a", "a\x00", "a\x00a", "ab", "b", "bb", "c", "d", "\xff", "\xff\xff"}
	got := map[string]bool{}
	add := func(key, end []byte) {
		for _, k := range universe {
			switch {
			case single(end):
				if k == string(key) {
					got[k] = true
				}
			case k >= string(key) && (toEnd(end) || k < string(end)):
				got[k] = true
			}
		}
	}
	var txn func(r *TxnRequest)
	txn = func(r *TxnRequest) {
		for _, c := range r.Compares {
			add(c.Key, c.End)
		}
		for _, o := range append(append([]Op{}, r.Success...), r.Failure...) {
			switch {
			case o.Put != nil:
				add(o.Put.Key, nil)
			case o.Delete != nil:
				add(o.Delete.Key, o.Delete.End)
			case o.Range != nil:
				add(o.Range.Key, o.Range.End)
			case o.Txn != nil:
				txn(o.Txn)
			}
		}
	}
	switch r := m.(type) {
	case *PutRequest:
		add(r.Key, nil)
	case *DeleteRequest:
		add(r.Key, r.End)
	case *TxnRequest:
		txn(r)
	}
	return got
}

func meet(a, b map[string]bool) bool {
	for k := range a {
		if b[k] {
			return true
		}
	}
	return false
}

// TestConflictSetsOverlap: two requests that touch a key in common have overlapping conflict sets, either way round,
// also after they have been added up; and requests that name other keys only do not.
func TestConflictSetsOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, other := genMutation.Draw(t, "a"), genMutation.Draw(t, "b"), genMutation.Draw(t, "other")
		fa, fb, sum := conflictSetOf(a), conflictSetOf(b), conflictSetOf(other)
		sum.add(&fa)
		if fa.overlaps(&fb) != fb.overlaps(&fa) {
			t.Fatal("overlaps is not symmetric")
		}
		common := meet(touches(a), touches(b))
		if common && (!fa.overlaps(&fb) || !sum.overlaps(&fb)) {
			t.Fatalf("%+v and %+v meet unseen", a, b)
		}
		// The universe has a key in every range that the generator makes, but for empty ones.
		if fa.overlaps(&fb) && !common && len(fa.ranges) == 0 && len(fb.ranges) == 0 {
			t.Fatalf("%+v and %+v do not meet", a, b)
		}
	})
}

func TestSpansOfRanges(t *testing.T) {
	f := func(key, end string) conflictSet {
		return conflictSetOf(&DeleteRequest{Key: []byte(key), End: []byte(end)})
	}
	for _, c := range []struct {
		a, b conflictSet
		want bool
	}{
		{f("a", ""), f("a", ""), true},
		{f("a", ""), f("a\x00", ""), false},
		{f("a", "b"), f("b", "c"), false},
		{f("a", "b\x00"), f("b", "c"), true},
		{f("a", "\x00"), f("z", ""), true},
		{f("b", "\x00"), f("a", ""), false},
		{f("b", "\x00"), f("a", "b"), false},
		{f("b", "\x00"), f("a", "\x00"), true},
		{conflictSet{}, f("a", "\x00"), false},
	} {
		if got := c.a.overlaps(&c.b); got != c.want || c.b.overlaps(&c.a) != c.want {
			t.Errorf("%+v, %+v: %v", c.a, c.b, got)
		}
	}
}

func newRequest(m mutation, n int) *request {
	return &request{m: m, bytes: n, done: make(chan struct{})}
}

func newQueue(limit, lanes int) *queue {
	q := &queue{}
	q.init(limit, lanes)
	return q
}

func TestQueueBounds(t *testing.T) {
	q := newQueue(3, 1)
	for range 3 {
		if err := q.put(newRequest(compaction(0), 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.put(newRequest(compaction(0), 1)); !errors.Is(err, ErrTooManyRequests) {
		t.Fatalf("the fourth of three: %v", err)
	}
	q = newQueue(100, 1)
	if err := q.put(newRequest(compaction(0), queueBytesMax)); err != nil {
		t.Fatal(err)
	}
	if err := q.put(newRequest(compaction(0), 1)); !errors.Is(err, ErrTooManyRequests) {
		t.Fatalf("a byte too many: %v", err)
	}
	if got := q.take(0, 10, 1); len(got) != 1 {
		t.Fatalf("a request larger than a group: %d", len(got))
	}
	if err := q.put(newRequest(compaction(0), queueBytesMax)); err != nil || q.waiting() != 1 {
		t.Fatalf("bytes taken are not free again: %v", err)
	}
}

// TestGroupBounds: groups are cut by requests and by bytes, in order.
func TestGroupBounds(t *testing.T) {
	q := newQueue(100, 1)
	var reqs []*request
	for i := range 7 {
		reqs = append(reqs, newRequest(compaction(i), 10))
		if err := q.put(reqs[i]); err != nil {
			t.Fatal(err)
		}
	}
	var got [][]*request
	for _, c := range []struct{ limit, bytes int }{{2, 1000}, {100, 25}, {100, 5}, {100, 1000}} {
		got = append(got, q.take(0, c.limit, c.bytes))
	}
	want := [][]*request{reqs[:2], reqs[2:4], reqs[4:5], reqs[5:]}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b *request) bool { return a == b })); diff != "" {
		t.Fatal(diff)
	}
	q.putBack(got[3])
	q.close()
	if again := q.take(0, 100, 1000); len(again) != 2 || again[0] != reqs[5] {
		t.Fatalf("put back: %v", again)
	}
	if end := q.take(0, 100, 1000); end != nil {
		t.Fatalf("after the end: %v", end)
	}
	if err := q.put(newRequest(compaction(0), 1)); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// TestWaitersKeepTheirPlace: a request that waits for another lane is not overtaken by one that touches the same key,
// and others overtake it.
func TestWaitersKeepTheirPlace(t *testing.T) {
	q := newQueue(100, 2)
	mk := func(key, end string) *request {
		r := newRequest(&DeleteRequest{Key: []byte(key), End: []byte(end)}, 1)
		if err := q.put(r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := mk("b", "")
	if got := q.take(0, 1, 100); len(got) != 1 || got[0] != first {
		t.Fatal(got)
	}
	waits := mk("a", "c") // for lane 0
	behind := mk("a", "") // behind it, although lane 0 has nothing of it
	free := mk("x", "")
	if got := q.take(1, 10, 100); len(got) != 1 || got[0] != free {
		t.Fatalf("%+v", got)
	}
	q.landed(0)
	if got := q.take(0, 10, 100); len(got) != 2 || got[0] != waits || got[1] != behind {
		t.Fatalf("%+v", got)
	}
}

// TestLanes runs several lanes over random requests: none overlaps with one in flight in another lane, those that
// touch a key in common are taken in the order in which they were put, all are taken, and close drains.
func TestLanes(t *testing.T) {
	const lanes, requests = 4, 3000
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	q := newQueue(requests, lanes)
	var mu sync.Mutex
	flying := make([][]*request, lanes)
	touched := map[*request]map[string]bool{}
	number := map[*request]int{}
	last := map[string]int{} // by key: the number of the last request taken
	var taken atomic.Int64
	var wg sync.WaitGroup
	lane := func(id int, r *rand.Rand) {
		for {
			reqs := q.take(id, 1+r.IntN(20), 1+r.IntN(50))
			if reqs == nil {
				return
			}
			mu.Lock()
			for other, fs := range flying {
				for _, f := range fs {
					for _, req := range reqs {
						if other != id && meet(touched[f], touched[req]) {
							t.Errorf("lane %d took %+v while lane %d had %+v", id, req.m, other, f.m)
						}
					}
				}
			}
			flying[id] = reqs
			mu.Unlock()
			keep := len(reqs)
			if r.IntN(4) == 0 { // as after errNextGroup
				keep = 1 + r.IntN(len(reqs))
			}
			mu.Lock()
			for _, req := range reqs[:keep] {
				for k := range touched[req] {
					if last[k] > number[req] {
						t.Errorf("request %d on %q was taken after %d", number[req], k, last[k])
					}
					last[k] = number[req]
				}
			}
			mu.Unlock()
			taken.Add(int64(keep))
			if keep < len(reqs) {
				q.putBack(reqs[keep:])
			}
			mu.Lock()
			flying[id] = nil
			mu.Unlock()
			q.landed(id)
		}
	}
	for id := range lanes {
		wg.Go(func() { lane(id, rand.New(rand.NewPCG(seed, uint64(id)))) })
	}
	for i := range requests {
		key := []byte(fmt.Sprint(string(rune('a' + r.IntN(4)))))
		var m mutation = &PutRequest{Key: key}
		if r.IntN(10) == 0 {
			m = &DeleteRequest{Key: key, End: append(bytes.Clone(key), 'x')}
		}
		req := newRequest(m, 1+r.IntN(10))
		mu.Lock()
		touched[req], number[req] = touches(m), i+1
		mu.Unlock()
		if err := q.put(req); err != nil {
			t.Error(err)
		}
	}
	q.close()
	wg.Wait()
	if taken.Load() != requests || q.waiting() != 0 || q.bytes != 0 {
		t.Fatalf("%d of %d taken, %d wait, %d bytes", taken.Load(), requests, q.waiting(), q.bytes)
	}
}

func TestCountMemo(t *testing.T) {
	var m countMemo
	key := func(i int) []byte { return fmt.Append(nil, i) }
	for i := range 2*countMemoMax + 10 {
		m.put(int64(i), key(i), nil, int64(i))
		m.put(int64(i), key(i), nil, int64(-i)) // again: no new place
		if len(m.left) > countMemoMax || len(m.ring) > countMemoMax {
			t.Fatalf("%d entries, %d places", len(m.left), len(m.ring))
		}
	}
	for i := range 2*countMemoMax + 10 {
		n, ok := m.get(int64(i), key(i), nil)
		if kept := i >= countMemoMax+10; ok != kept || ok && n != int64(-i) {
			t.Fatalf("entry %d: %d, %v", i, n, ok)
		}
	}
	if _, ok := m.get(2*countMemoMax, key(2*countMemoMax), []byte{0}); ok {
		t.Fatal("found with another end")
	}
}
