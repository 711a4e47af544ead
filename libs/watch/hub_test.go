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
		hubConcurrent(t, log, log, func([]revlog.Payload) {})
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

func hubConcurrent(t *testing.T, log *memLog, front Log, feed func([]revlog.Payload)) Stats {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const revs, clients = 4000, 8
	h := New(Options{
		RingBytes: 20_000, TurnBytes: 3000, ResponseBytes: 1000, InboxBytes: 5000, PassEntries: 50, PassWatchers: 7,
		Log:              quietLog(),
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
	writer := rand.New(rand.NewPCG(seed, clients))
	for i := range int64(revs) {
		// The writer keeps near the fastest client, so that watchers are live, fall off the ring, and catch up.
		for deadline := time.Now().Add(2 * time.Minute); i > furthest.Load()+1000; time.Sleep(10 * time.Microsecond) {
			if time.Now().After(deadline) {
				t.Fatal("no client gets on")
			}
		}
		entries := log.add("k", make([]byte, 50))
		payloads := asPayloads(entries)
		feed(payloads)
		if writer.IntN(2) == 0 {
			h.Apply(entries)
		} else {
			h.ApplyPayloads(payloads)
		}
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
		if err := s.Create(ctx, CreateRequest{
			Key: []byte("k"), RangeEnd: end, StartRevision: next, ProgressNotify: true,
		}); err != nil {
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
