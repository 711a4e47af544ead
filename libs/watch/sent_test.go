package watch

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestSentLatency: what OnSent is told is the time from Apply to Sent of each response's oldest event, with the
// number of events; what was read back from history is not counted.
func TestSentLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		h := New(Options{OnSent: func(events int, latency time.Duration) {
			told = append(told, fmt.Sprintf("%d × %s", events, latency))
		}})
		defer h.Close()
		old := entriesOf(2, 3)
		h.Start(&memLog{entries: old}, 3)
		s, err := h.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		// Two watches from now on, one from the past.
		for _, start := range []int64{0, 0, 2} {
			if err := s.Create(t.Context(), CreateRequest{Key: []byte("k"), StartRevision: start}); err != nil {
				t.Fatal(err)
			}
		}
		send := func(wait time.Duration, want ...string) {
			t.Helper()
			synctest.Wait()
			told = nil
			for more := true; more; {
				turn, err := s.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(wait)
				s.Sent(turn)
				s.Release(turn)
				more = h.Stats().Pending > 0
			}
			if fmt.Sprint(told) != fmt.Sprint(want) {
				t.Errorf("told %v, want %v", told, want)
			}
		}
		send(time.Second) // created, and history
		h.Apply(entriesOf(4))
		send(2*time.Millisecond, "3 × 2ms")
		h.Apply(entriesOf(5))
		time.Sleep(time.Second)
		h.Apply(entriesOf(6))
		send(time.Millisecond, "6 × 1.001s")
	})
}

// entriesOf are puts of k at revisions.
func entriesOf(revs ...int64) (entries []revlog.Entry) {
	for _, rev := range revs {
		kv := revlog.KV{Key: []byte("k"), Value: []byte("v"), Create: rev, Mod: rev, Version: 1}
		entries = append(entries, revlog.Entry{Rev: rev, Events: []revlog.Event{{KV: kv}}})
	}
	return entries
}
