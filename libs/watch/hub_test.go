package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch/history"
)

// memLog is a log in memory with dense revisions from 2 on.
type memLog struct {
	mu      sync.Mutex
	entries []revlog.Entry
	compact int64
	fail    int // reads that still fail
	heads   atomic.Int64
	gate    chan struct{} // if set, Head waits for a token

	values     map[int64][]byte // of versions whose entries only name them
	valueReads int
}

func (l *memLog) Head(ctx context.Context) (int64, error) {
	l.heads.Add(1)
	if l.gate != nil {
		select {
		case <-l.gate:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.entries)) + 1, nil
}

func (l *memLog) CompactRevision() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.compact
}

// ReadValues answers from values, and counts.
func (l *memLog) ReadValues(_ context.Context, kvs []*revlog.KV) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.valueReads++
	if l.fail > 0 {
		l.fail--
		return nil, errors.New("unavailable")
	}
	got := make([][]byte, len(kvs))
	for i, kv := range kvs {
		got[i] = l.values[kv.Mod]
	}
	return got, nil
}

func (l *memLog) ReadLog(_ context.Context, from int64, maxEntries, _ int) ([]revlog.Entry, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail > 0 {
		l.fail--
		return nil, 0, errors.New("unavailable")
	}
	got := l.entries[max(0, from-2):]
	got = got[:min(maxEntries, len(got))]
	return slices.Clone(got), max(from, 2) + int64(len(got)), nil
}

func (l *memLog) add(key string, value []byte) []revlog.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	rev := int64(len(l.entries)) + 2
	kv := revlog.KV{Key: []byte(key), Value: value, Create: rev, Mod: rev, Version: 1}
	l.entries = append(l.entries, revlog.Entry{Rev: rev, Events: []revlog.Event{{KV: kv}}})
	return l.entries[len(l.entries)-1:]
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestHubBeforeAndAfterItsTime(t *testing.T) {
	log := &memLog{}
	h := New(Options{})
	if _, err := h.Open(); !errors.Is(err, ErrStopped) {
		t.Errorf("Open before Start: %v", err)
	}
	for range 5 {
		h.Apply(log.add("a", nil)) // before Start: kept
	}
	h.Start(log, 3)
	s, err := h.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Create(t.Context(), CreateRequest{Key: []byte("a"), StartRevision: 4}); err != nil {
		t.Fatal(err)
	}
	next := int64(4)
	for next <= 6 {
		turn, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range turn {
			for _, e := range r.Events {
				if e.Rev() != next {
					t.Fatalf("got %d, want %d", e.Rev(), next)
				}
				next++
			}
		}
	}
	h.Close()
	if _, err := s.Next(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("Next after Close: %v", err)
	}
	if _, err := h.Open(); !errors.Is(err, ErrStopped) {
		t.Errorf("Open after Close: %v", err)
	}
	s.Close()
	s.Close()
	if err := s.Create(t.Context(), CreateRequest{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Create after Close: %v", err)
	}
}

// TestHubRetriesTheLog: while history cannot be read lagging watchers wait, and live ones do not.
func TestHubRetriesTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{fail: 3}
		for range 10 {
			log.add("a", nil)
		}
		h := New(Options{Log: quietLog()})
		h.Start(log, 11)
		defer h.Close()
		s, _ := h.Open()
		defer s.Close()
		for _, start := range []int64{5, 0} {
			if err := s.Create(t.Context(), CreateRequest{Key: []byte("a"), StartRevision: start}); err != nil {
				t.Fatal(err)
			}
		}
		h.Apply(log.add("a", nil))
		got := map[int64]int{}
		for got[0] < 8 || got[1] < 1 {
			turn, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range turn {
				if got[r.WatchID] += len(r.Events); got[0] > 0 && got[1] == 0 {
					t.Fatal("the live watch waited for the other")
				}
			}
		}
		if log.fail != 0 {
			t.Errorf("%d failures left", log.fail)
		}
	})
}

// TestHubProgressTicks: one ticker serves all, each stream once per interval, nothing after an event.
func TestHubProgressTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{}
		h := New(Options{ProgressInterval: time.Minute})
		h.Start(log, 1)
		defer h.Close()
		s, _ := h.Open()
		defer s.Close()
		if err := s.Create(t.Context(), CreateRequest{Key: []byte("a"), ProgressNotify: true}); err != nil {
			t.Fatal(err)
		}
		counts := make(chan Response, 100)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() {
			for {
				turn, err := s.Next(ctx)
				if err != nil {
					return
				}
				for _, r := range turn {
					counts <- r
				}
			}
		}()
		synctest.Wait()
		if r := <-counts; !r.Created {
			t.Fatalf("got %+v", r)
		}
		expect := func(n int, rev int64) {
			t.Helper()
			synctest.Wait()
			if len(counts) != n {
				t.Fatalf("%d responses, want %d", len(counts), n)
			}
			for range n {
				if r := <-counts; r.Revision != rev || len(r.Events) != 0 {
					t.Fatalf("got %+v", r)
				}
			}
		}
		time.Sleep(5*time.Minute + time.Second)
		expect(5, 1)
		h.Apply(log.add("b", nil))
		time.Sleep(time.Minute)
		expect(1, 2)
		h.Apply(log.add("a", nil))
		synctest.Wait()
		if r := <-counts; len(r.Events) != 1 {
			t.Fatalf("got %+v", r)
		}
		time.Sleep(time.Minute)
		expect(0, 3) // an event was sent in this interval
		time.Sleep(time.Minute)
		expect(1, 3)
	})
}

// TestHeadIsCoalesced: any number of callers share reads, and none gets the answer of a read that began before its
// call.
func TestHeadIsCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{gate: make(chan struct{})}
		r := headReader{read: log.Head, base: t.Context()}
		get := func(want int64) {
			if rev, err := r.get(t.Context()); err != nil || rev < want {
				t.Errorf("got %d, %v, want at least %d", rev, err, want)
			}
		}
		go get(1)
		synctest.Wait()
		log.add("a", nil)
		for range 100 {
			go get(2)
		}
		synctest.Wait()
		log.gate <- struct{}{}
		log.gate <- struct{}{}
		synctest.Wait()
		if n := log.heads.Load(); n != 2 {
			t.Errorf("%d reads", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go get(2)
		synctest.Wait()
		cancel()
		if _, err := r.get(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		log.gate <- struct{}{}
		log.gate <- struct{}{} // the read that the canceled caller had asked for
	})
}

// TestHubHoldsCreationsBack: a client that asks and never reads is stopped at the limit, and goes on when it reads.
func TestHubHoldsCreationsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{})
		h.Start(&memLog{}, 1)
		defer h.Close()
		s, _ := h.Open()
		defer s.Close()
		const watches = maxQueuedControls + 100
		var asked atomic.Int64
		go func() {
			for range watches {
				if err := s.Create(t.Context(), CreateRequest{Key: []byte("a")}); err != nil {
					t.Error(err)
				}
				asked.Add(1)
			}
		}()
		synctest.Wait()
		if n := asked.Load(); n != maxQueuedControls {
			t.Errorf("%d asked, limit %d", n, maxQueuedControls)
		}
		for got := 0; got < watches; {
			turn, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got += len(turn)
		}
	})
}

// TestHubConcurrent runs writers, streams that come and go, stalls and cancels at once with tiny limits; every watch
// that lives long enough must see every revision of its key once. It does so with the log alone and with a small
// history in front.
func TestHubConcurrent(t *testing.T) {
	t.Run("log", func(t *testing.T) {
		log := &memLog{}
		hubConcurrent(t, log, log, func([]revlog.Entry) {})
	})
	t.Run("history", func(t *testing.T) {
		log := &memLog{}
		c, err := history.Open("h", history.Options{MaxBytes: 60_000, FS: vfs.NewMem(), Log: quietLog()})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context(), log, 1); err != nil {
			t.Fatal(err)
		}
		st := hubConcurrent(t, log, c.Over(log), c.Append)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if st.HistoryReads == 0 || st.HistoryEntries == 0 {
			t.Error("the history has served nothing")
		}
	})
}

func hubConcurrent(t *testing.T, log *memLog, front Log, feed func([]revlog.Entry)) Stats {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const revs, clients = 4000, 8
	h := New(Options{
		RingBytes: 20_000, TurnBytes: 3000, ResponseBytes: 1000, InboxBytes: 5000, PassEntries: 50, PassWatchers: 7, Log: quietLog(),
		ProgressInterval: MinProgressInterval, OnSent: func(int, time.Duration) {},
	})
	h.Start(front, 1)
	var wg sync.WaitGroup
	var furthest atomic.Int64
	for c := range clients {
		rnd := rand.New(rand.NewPCG(seed, uint64(c)))
		wg.Go(func() {
			for next := int64(2); next <= revs+1; {
				var err error
				if next, err = readSome(h, rnd, next, revs+1); err != nil {
					t.Error(err)
					furthest.Store(revs)
					return
				}
				furthest.Store(max(furthest.Load(), next))
			}
		})
	}
	for i := range int64(revs) {
		// The writer keeps near the fastest client, so that watchers are live, fall off the ring, and catch up.
		for deadline := time.Now().Add(10 * time.Second); i > furthest.Load()+1000; time.Sleep(10 * time.Microsecond) {
			if time.Now().After(deadline) {
				t.Fatal("no client gets on")
			}
		}
		entries := log.add("k", make([]byte, 50))
		feed(entries)
		h.Apply(entries)
	}
	wg.Wait()
	st := h.Stats()
	if st.Streams != 0 || st.Watchers != 0 || st.Lagging != 0 || st.Groups != 0 || st.Pending != 0 {
		t.Errorf("left: %+v", st)
	}
	t.Logf("%+v", st)
	h.Close()
	return st
}

// readSome opens a stream with a few watches from revision next on, reads for a while, and returns where watch 0 got
// to.
func readSome(h *Hub, rnd *rand.Rand, next, last int64) (int64, error) {
	s, err := h.Open()
	if err != nil {
		return 0, err
	}
	defer s.Close()
	ctx := context.Background()
	cursor := map[int64]int64{}
	for id := range int64(1 + rnd.IntN(4)) {
		cursor[id] = next
		end := [][]byte{nil, []byte("l"), {0}}[rnd.IntN(3)]
		if err := s.Create(ctx, CreateRequest{Key: []byte("k"), RangeEnd: end, StartRevision: next, ProgressNotify: true}); err != nil {
			return 0, err
		}
	}
	stop := min(last, next+int64(rnd.IntN(500)))
	for cursor[0] <= stop {
		if rnd.IntN(20) == 0 {
			time.Sleep(time.Duration(rnd.IntN(1000)) * time.Microsecond) // a client that is busy
		}
		if rnd.IntN(10) == 0 {
			if err := s.RequestProgress(ctx); err != nil {
				return 0, err
			}
		}
		turn, err := s.Next(ctx)
		if err != nil {
			return 0, err
		}
		for i := range turn {
			r := &turn[i]
			for _, e := range r.Events {
				if e.Rev() != cursor[r.WatchID] {
					return 0, fmt.Errorf("watch %d: got %d, want %d", r.WatchID, e.Rev(), cursor[r.WatchID])
				}
				cursor[r.WatchID]++
			}
			if !r.Created && r.WatchID != ProgressAllID && r.Revision >= cursor[r.WatchID] {
				return 0, fmt.Errorf("watch %d: header %d, cursor %d", r.WatchID, r.Revision, cursor[r.WatchID])
			}
		}
		s.Sent(turn)
		s.Release(turn)
	}
	return cursor[0], nil
}

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
		if err := late.Create(t.Context(), CreateRequest{Key: []byte("k"), PrevKV: true, StartRevision: 3}); err != nil {
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
			if err := s.Create(t.Context(), CreateRequest{Key: []byte("k"), PrevKV: prev, StartRevision: start}); err != nil {
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

// TestPositionNeverFalls: what a hub has been given before its start, and below it, does not take its position back.
func TestPositionNeverFalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{}
		h := New(Options{Log: quietLog()})
		h.Apply(log.add("k", nil))
		h.Start(log, 5)
		defer h.Close()
		synctest.Wait()
		if p := h.Position(); p != 5 {
			t.Errorf("position %d", p)
		}
	})
}
