package watchload

import (
	"math"
	"strings"
	"testing"
)

// testStream is a stream of two created watches at revision 10 that is not connected to anything.
func testStream(t *testing.T, spec watchSpec) *watchStream {
	t.Helper()
	spec.streams, spec.perStream = 1, 2
	g := &group{spec: spec}
	g.from.Store(math.MaxInt64)
	s := &watchStream{g: g, watches: make([]watchState, 2)}
	g.streams = []*watchStream{s}
	for id := range int64(2) {
		s.resp = watchResponse{id: id, created: true, revision: 10}
		if err := s.take(0); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestChecks gives a stream responses that a wrong server might send.
func TestChecks(t *testing.T) {
	ok := func(rev int64) event { return event{rev: rev, version: 1} }
	events := func(evs ...event) watchResponse { return watchResponse{events: evs} }
	for _, tt := range []struct {
		name  string
		spec  watchSpec
		resps []watchResponse
		want  string // of the last response's error; empty: none
	}{
		{"in order", watchSpec{contiguous: true}, []watchResponse{events(ok(11), ok(12)), events(ok(13))}, ""},
		{"twice", watchSpec{}, []watchResponse{events(ok(11)), events(ok(11))}, "revision 11 after 11"},
		{"out of order", watchSpec{}, []watchResponse{events(ok(13), ok(12))}, "revision 12 after 13"},
		{"missing", watchSpec{contiguous: true}, []watchResponse{events(ok(11)), events(ok(13))}, "revision 13 after 11"},
		{"first missing", watchSpec{contiguous: true}, []watchResponse{events(ok(12))}, "revision 12 after 10"},
		{"gap where others write", watchSpec{}, []watchResponse{events(ok(11)), events(ok(13))}, ""},
		{"before the watch", watchSpec{}, []watchResponse{events(ok(10))}, "revision 10 after 10"},
		{"before the start revision", watchSpec{startRev: 5}, []watchResponse{events(ok(4))}, "revision 4 after 4"},
		{"no stamp", watchSpec{}, []watchResponse{events(event{rev: 11, stamp: -1})}, "no value of this run"},
		{"prev missing", watchSpec{prevKV: true}, []watchResponse{events(event{rev: 11, version: 2})}, "has a previous version: false"},
		{"prev not asked for", watchSpec{}, []watchResponse{events(event{rev: 11, version: 2, prev: true})}, "has a previous version: true"},
		{"prev of the first version", watchSpec{prevKV: true}, []watchResponse{events(event{rev: 11, version: 1})}, ""},
		{"too many", watchSpec{want: func(int) int64 { return 1 }}, []watchResponse{events(ok(11)), events(ok(12))}, "more than 1 events"},
		{"no such watch", watchSpec{}, []watchResponse{{id: 2}}, "watch 2 of a stream of 2"},
		{"created twice", watchSpec{}, []watchResponse{{created: true}}, "created twice"},
		{"cancelled", watchSpec{}, []watchResponse{{canceled: true, reason: "why", compactRevision: 7}}, `cancelled: "why", compacted at 7`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := testStream(t, tt.spec)
			for i, r := range tt.resps {
				s.resp = r
				err := s.take(0)
				switch last := i == len(tt.resps)-1; {
				case !last || tt.want == "":
					if err != nil {
						t.Fatal(err)
					}
				case err == nil || !strings.Contains(err.Error(), tt.want):
					t.Errorf("error %v, want %q", err, tt.want)
				}
			}
		})
	}
}

func TestEventsBeforeCreated(t *testing.T) {
	s := &watchStream{g: &group{}, watches: make([]watchState, 1)}
	s.resp = watchResponse{events: []event{{rev: 1}}}
	if err := s.take(0); err == nil || !strings.Contains(err.Error(), "not created") {
		t.Errorf("error %v", err)
	}
}

// TestCounts checks what a group knows of its watches: which are live, which latencies count, and which lack events.
func TestCounts(t *testing.T) {
	s := testStream(t, watchSpec{want: func(i int) int64 { return int64(i) + 1 }})
	s.g.from.Store(2000)
	s.resp = watchResponse{id: 0, events: []event{{rev: 11, stamp: 1000}}}
	if err := s.take(5000); err != nil {
		t.Fatal(err)
	}
	s.resp = watchResponse{id: 1, events: []event{{rev: 12, stamp: 3_000_000}}}
	if err := s.take(5_000_000); err != nil {
		t.Fatal(err)
	}
	if n := s.g.live.Load(); n != 1 || s.watches[0].liveAt != 5000 {
		t.Errorf("%d live, the first at %d; want 1 at 5000", n, s.watches[0].liveAt)
	}
	if n := s.g.arrived(); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
	if h := s.g.latencies(); h.TotalCount() != 1 || h.Max() != 2000 {
		t.Errorf("%d latencies up to %d µs, want 1 of 2000", h.TotalCount(), h.Max())
	}
	err := s.g.check(s.g.spec.want)
	if err == nil || !strings.Contains(err.Error(), "watch 1 saw 1 events, want 2") ||
		strings.Contains(err.Error(), "watch 0") {
		t.Errorf("check: %v", err)
	}
}

func TestPrefixEnd(t *testing.T) {
	if got := prefixEnd("/a/"); got != "/a0" {
		t.Errorf("end of /a/ is %q", got)
	}
}
