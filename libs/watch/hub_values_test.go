package watch

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// name adds an entry that replaces the last version of k, and names both values.
func (l *memLog) name(size int) []revlog.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	rev := int64(len(l.entries)) + 2
	kv := revlog.KV{Key: []byte("k"), Create: 2, Mod: rev, Version: rev - 1, Place: revlog.PlaceOwn, Size: size}
	ev := revlog.Event{KV: kv, HasPrev: rev > 2, Prev: kv}
	ev.Prev.Mod--
	if l.values == nil {
		l.values = map[int64][]byte{}
	}
	l.values[rev] = fmt.Appendf(nil, "%*d", size, rev)
	l.entries = append(l.entries, revlog.Entry{Rev: rev, Events: []revlog.Event{ev}})
	return l.entries[len(l.entries)-1:]
}

// nextEvents returns the responses of turns until there is one with events, or a cancel.
func nextEvents(t *testing.T, s *Stream) []Response {
	t.Helper()
	for {
		turn, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []Response
		for _, r := range turn {
			if len(r.Events) > 0 || r.Canceled {
				got = append(got, r)
			}
		}
		if len(got) > 0 {
			return got
		}
	}
}

// TestHubReadsValuesOnce: what an entry only names is read when a watch wants it, once for all watches, and again
// after a failure; nobody reads what nobody wants.
func TestHubReadsValuesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{}
		h := New(Options{Log: quietLog()})
		h.Apply(log.name(1000))
		h.Start(log, 2)
		defer h.Close()
		h.Apply(log.name(1000))
		synctest.Wait()
		if log.valueReads != 0 || h.Position() != 3 {
			t.Fatalf("%d reads for nobody, at %d", log.valueReads, h.Position())
		}
		streams := make([]*Stream, 3)
		for i := range streams {
			streams[i], _ = h.Open()
			defer streams[i].Close()
			if err := streams[i].Create(t.Context(), CreateRequest{Key: []byte("k"), PrevKV: i > 0}); err != nil {
				t.Fatal(err)
			}
		}
		log.fail = 2
		h.Apply(log.name(1000))
		for i, s := range streams {
			ev := nextEvents(t, s)[0].Events[0]
			want := log.entries[2].Events[0]
			want.KV.Value, want.Prev.Value = log.values[4], log.values[3]
			wire := encodeEvent(&want, i > 0).parts.Materialize()
			if got := ev.Wire(i > 0).Materialize(); string(got) != string(wire) {
				t.Errorf("stream %d got %.80q", i, got)
			}
		}
		// Two that failed, after the first of which what was missing is read in halves.
		if log.valueReads != 4 {
			t.Errorf("%d reads, two of which failed", log.valueReads)
		}
		// One that comes back reads what the others did not want: the event before.
		late, _ := h.Open()
		defer late.Close()
		if err := late.Create(t.Context(),
			CreateRequest{Key: []byte("k"), PrevKV: true, StartRevision: 3}); err != nil {
			t.Fatal(err)
		}
		ev := nextEvents(t, late)[0].Events[0]
		want := log.entries[1].Events[0]
		want.KV.Value, want.Prev.Value = log.values[3], log.values[2]
		if got := ev.Wire(true).Materialize(); string(got) != string(encodeEvent(&want, true).parts.Materialize()) {
			t.Errorf("the late one got %.80q", got)
		}
	})
}

// TestHubLosesValues: where a compaction has taken a previous value before the hub came to it, the event goes
// without; where it has taken the value itself, the watches that are owed it are canceled, live or behind, and no
// others.
func TestHubLosesValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{}
		h := New(Options{Log: quietLog()})
		h.Start(log, 1)
		defer h.Close()
		h.Apply(log.name(1000))
		s, _ := h.Open()
		defer s.Close()
		create := func(s *Stream, start int64, prev bool) {
			if err := s.Create(t.Context(),
				CreateRequest{Key: []byte("k"), PrevKV: prev, StartRevision: start}); err != nil {
				t.Fatal(err)
			}
		}
		create(s, 3, false)
		create(s, 3, true)
		create(s, 5, true)
		synctest.Wait()
		delete(log.values, 2)
		h.Apply(log.name(1000))
		synctest.Wait()
		without := log.entries[1].Events[0]
		without.KV.Value = log.values[3]
		wire := encodeEvent(&without, false).parts.Materialize()
		for _, r := range nextEvents(t, s) {
			if got := r.Events[0].Wire(r.PrevKV).Materialize(); r.Canceled || string(got) != string(wire) {
				t.Errorf("without its previous value: %+v", r)
			}
		}

		entry := log.name(1000)
		delete(log.values, 4)
		h.Apply(entry)
		synctest.Wait()
		lost := nextEvents(t, s)
		for _, r := range lost {
			if r.WatchID > 1 || !r.Canceled || r.CompactRevision != 5 {
				t.Errorf("%+v", r)
			}
		}
		late, _ := h.Open()
		defer late.Close()
		create(late, 4, false)
		create(late, 5, false)
		synctest.Wait()
		if r := nextEvents(t, late); len(lost) != 2 || len(r) != 1 || r[0].WatchID != 0 || r[0].CompactRevision != 5 {
			t.Errorf("%d canceled, late: %+v", len(lost), r)
		}
		log.values[4] = make([]byte, 1000) // for the previous value of the next
		h.Apply(log.name(1000))
		synctest.Wait()
		for _, s := range []*Stream{s, late} {
			if r := nextEvents(t, s); len(r) != 1 || r[0].Canceled || r[0].Events[0].Rev() != 5 {
				t.Errorf("after the loss: %+v", r)
			}
		}
	})
}

// valueBytesLog notes the most bytes of values that were asked for together.
type valueBytesLog struct {
	*memLog
	most atomic.Int64
}

func (l *valueBytesLog) ReadValues(ctx context.Context, kvs []*revlog.KV) ([][]byte, error) {
	sum := int64(0)
	for _, kv := range kvs {
		sum += int64(kv.Size)
	}
	l.most.Store(max(l.most.Load(), sum))
	return l.memLog.ReadValues(ctx, kvs)
}

// TestPassBoundsValues: a watch that comes back reads a history of named values in passes of bounded bytes, and gets
// all of it.
func TestPassBoundsValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const entries, size, passBytes = 100, 100_000, 1 << 20
		log := &valueBytesLog{memLog: &memLog{}}
		for range entries {
			log.name(size)
		}
		h := New(Options{Log: quietLog(), PassBytes: passBytes})
		h.Start(log, entries+1)
		defer h.Close()
		s, _ := h.Open()
		defer s.Close()
		if err := s.Create(t.Context(), CreateRequest{Key: []byte("k"), PrevKV: true, StartRevision: 3}); err != nil {
			t.Fatal(err)
		}
		for rev := int64(3); rev < entries+2; {
			turn, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range turn {
				if r.Canceled {
					t.Fatal("canceled")
				}
				for _, e := range r.Events {
					if n := e.Wire(true).Len(); e.Rev() != rev || n < 2*size {
						t.Fatalf("revision %d has %d bytes, want %d", e.Rev(), n, rev)
					}
					rev++
				}
			}
			s.Sent(turn)
			s.Release(turn)
		}
		if most := log.most.Load(); most > passBytes+2*size {
			t.Errorf("%d bytes of values were read together", most)
		}
	})
}
