package watch

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// only allows the ranges of some requests, until they are taken away.
type only struct {
	ranges map[[2]string]*atomic.Bool
	asked  atomic.Int64
}

func (o *only) Ready(context.Context) error { return nil }

func (o *only) MayWatch(key, end string, again bool) string {
	if again {
		o.asked.Add(1)
	}
	if a := o.ranges[[2]string{key, end}]; a != nil && a.Load() {
		return ""
	}
	return "denied"
}

func (o *only) set(key, end string, on bool) {
	if o.ranges[[2]string{key, end}] == nil {
		o.ranges[[2]string{key, end}] = new(atomic.Bool)
	}
	o.ranges[[2]string{key, end}].Store(on)
}

// TestRecheck: what a client may not watch is refused with a reason; a watch that may not go on is canceled, is sent
// nothing that is applied later, in whatever state it is, and its range comes back as it was asked for.
func TestRecheck(t *testing.T) {
	log := &accessLog{}
	h := New(Options{})
	h.Start(log, 1)
	defer h.Close()
	s, err := h.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	may := &only{ranges: map[[2]string]*atomic.Bool{}}
	s.SetAccess(may)
	got := &responses{s: s}
	ranges := [][2]string{
		{"k", ""}, {"k", "l"}, {"k", "kz"}, {"a", "\x00"}, {"\x00", "\x00"}, {"k\xff", "l"}, {"\xff", "\x00"}, {"", ""},
	}
	for i, r := range ranges {
		key := r[0]
		if key == "" {
			key = "\x00"
		}
		may.set(key, r[1], true)
		create(t, s, CreateRequest{Key: []byte(r[0]), RangeEnd: []byte(r[1]), WatchID: int64(i + 1)})
	}
	create(t, s, CreateRequest{Key: []byte("other"), WatchID: 99})
	created := map[int64]bool{}
	for range len(ranges) + 1 {
		r := got.next(t)
		if r.Created && r.Canceled != (r.CancelReason == "denied") || r.Canceled && r.WatchID != invalidID {
			t.Fatalf("%+v", r)
		}
		created[r.WatchID] = true
	}
	if !created[invalidID] || len(created) != len(ranges)+1 {
		t.Fatal(created)
	}
	// Nothing is taken away: all are asked for as they were created.
	h.Recheck()
	h.Apply(puts(2, "k"))
	for range 5 {
		r := got.next(t)
		if r.Canceled || len(r.Events) != 1 {
			t.Fatalf("%+v", r)
		}
	}
	if may.asked.Load() != int64(len(ranges)) {
		t.Fatalf("asked for %d of %d", may.asked.Load(), len(ranges))
	}
	// Two are taken away: their cancel comes, and no event applied after it; the others get theirs.
	may.set("k", "", false)
	may.set("a", "\x00", false)
	h.Recheck()
	h.Apply(puts(3, "k"))
	canceled, events := map[int64]bool{}, map[int64]bool{}
	for len(canceled)+len(events) < 5 {
		switch r := got.next(t); {
		case r.Canceled && r.CancelReason == "denied" && !events[r.WatchID]:
			canceled[r.WatchID] = true
		case len(r.Events) == 1 && !canceled[r.WatchID]:
			events[r.WatchID] = true
		default:
			t.Fatalf("%+v", r)
		}
	}
	if len(canceled) != 2 || !canceled[1] || !canceled[4] {
		t.Fatal(canceled, events)
	}
	if n := h.Stats().Denied; n != 2 {
		t.Errorf("%d denied", n)
	}
}

func create(t *testing.T, s *Stream, r CreateRequest) {
	t.Helper()
	if err := s.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// responses are those of a stream, one after the other.
type responses struct {
	s       *Stream
	waiting []Response
}

func (n *responses) next(t *testing.T) Response {
	t.Helper()
	if len(n.waiting) == 0 {
		turn, err := n.s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n.waiting = append(n.waiting, turn...)
		n.s.Release(turn)
	}
	r := n.waiting[0]
	n.waiting = n.waiting[1:]
	return r
}

func puts(rev int64, key string) []revlog.Entry {
	kv := revlog.KV{Key: []byte(key), Create: rev, Mod: rev, Version: 1}
	return []revlog.Entry{{Rev: rev, Events: []revlog.Event{{KV: kv}}}}
}

// accessLog has nothing but a head.
type accessLog struct{}

func (*accessLog) Head(context.Context) (int64, error) { return 1, nil }
func (*accessLog) CompactRevision() int64              { return -1 }
func (*accessLog) ReadLog(_ context.Context, from int64, _, _ int) ([]revlog.Entry, int64, error) {
	return nil, from, nil
}
func (*accessLog) ReadValues(context.Context, []*revlog.KV) ([][]byte, error) { return nil, nil }
