package watch

import (
	"context"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// damagedLog is a log with one entry that cannot be read.
type damagedLog struct {
	memLog
	at int64
}

func (l *damagedLog) ReadLog(ctx context.Context, from int64, maxEntries, maxBytes int) ([]revlog.Entry, int64, error) {
	entries, next, err := l.memLog.ReadLog(ctx, from, maxEntries, maxBytes)
	for i, e := range entries {
		if e.Rev == l.at && i == 0 {
			return nil, 0, revlog.ErrCorrupt
		} else if e.Rev == l.at {
			return entries[:i], l.at, nil
		}
	}
	return entries, next, err
}

// TestDamagedHistory: a watch that needs an entry which cannot be read gets what comes before it and is canceled with
// the reason. Those that do not need it get all that is theirs, and the log's queue goes on.
func TestDamagedHistory(t *testing.T) {
	log := &damagedLog{at: 20}
	for range 30 { // revisions 2 … 31
		log.add("a", nil)
	}
	h := New(Options{Log: quietLog()})
	h.Start(log, 31)
	defer h.Close()
	s, err := h.Open()
	if err != nil {
		t.Fatal(err)
	}
	starts := map[int64]int64{1: 15, 2: 20, 3: 21, 4: 31, 5: 20} // by watch id
	for id, start := range starts {
		if err := s.Create(t.Context(),
			CreateRequest{WatchID: id, Key: []byte("a"), StartRevision: start}); err != nil {
			t.Fatal(err)
		}
	}
	last := map[int64]int64{}
	reason := map[int64]string{}
	for len(reason) < 3 || last[3] < 31 || last[4] < 31 {
		turn, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range turn {
			for _, e := range r.Events {
				last[r.WatchID] = e.Rev()
			}
			if r.Canceled {
				reason[r.WatchID] = r.CancelReason
			}
		}
		s.Release(turn)
	}
	for _, id := range []int64{1, 2, 5} {
		if !strings.Contains(reason[id], "data loss") || !strings.Contains(reason[id], "revision 20 ") {
			t.Errorf("watch %d: %q", id, reason[id])
		}
	}
	if last[1] != 19 || last[2] != 0 || last[5] != 0 {
		t.Errorf("got up to %v", last)
	}
	if st := h.Stats(); st.Damaged != 3 || st.Watchers != 2 || st.Lagging != 0 {
		t.Errorf("%+v", st)
	}
	s.Close()
}
