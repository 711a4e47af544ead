package etcdapi

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch"
)

var soakFor = flag.Duration("soak", 3*time.Second, "how long TestWatchSoak runs")

const (
	soakConns, soakStreams = 4, 1000
	soakRounds             = 6 // at least; the first soakWarm are for warming up
	soakWarm               = 2
	soakRoundMax           = 10 * time.Second
	soakKeys               = 16
	soakHead               = 10_000
)

// soakLog is an endless log that takes no memory: revision r is a put of key r mod soakKeys.
type soakLog struct{ revision atomic.Int64 }

func (l *soakLog) Head(context.Context) (int64, error) { return l.revision.Load(), nil }

func (l *soakLog) CompactRevision() int64 { return -1 }

// ReadValues has nothing to read: all values are in their entries.
func (l *soakLog) ReadValues(context.Context, []*revlog.KV) ([][]byte, error) {
	return nil, errors.New("no values")
}

func (l *soakLog) ReadLog(_ context.Context, from int64, maxEntries,
	_ int,
) (got []revlog.Entry, next int64, err error) {
	for head := l.revision.Load(); from <= head && len(got) < maxEntries; from++ {
		got = append(got, soakEntry(from))
	}
	return got, from, nil
}

func soakKey(rev int64) string { return fmt.Sprintf("k%02d", rev%soakKeys) }

func soakEntry(rev int64) revlog.Entry {
	kv := revlog.KV{Key: []byte(soakKey(rev)), Value: make([]byte, 64), Create: rev, Mod: rev, Version: 1}
	return revlog.Entry{Rev: rev, Events: []revlog.Event{{KV: kv}}}
}

// TestWatchSoak: streams come and go by the thousand, some of which do not read, while revisions are written that
// only just fit the hub's memory. Every watch gets its events in order without a hole, and between rounds nothing is
// left: no stream, watch, goroutine, or memory. -soak=5m makes it long.
func TestWatchSoak(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	checkLeaks(t)
	total := *soakFor
	if testing.Short() {
		total = min(total, time.Second)
	}
	log := &soakLog{}
	log.revision.Store(soakHead)
	hub := watch.New(watch.Options{
		RingBytes: 256 << 10, TurnBytes: 32 << 10, ProgressInterval: watch.MinProgressInterval,
	})
	hub.Start(log, soakHead)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, registrar := newTestServer()
	RegisterWatch(registrar, hub, watchTestHeader, WatchOptions{})
	t.Cleanup(serveWatch(srv, lis, hub))
	var conns []*grpc.ClientConn
	for range soakConns {
		conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns = append(conns, conn)
	}
	var base runtime.MemStats
	goroutines := 0
	round := min(total/soakRounds, soakRoundMax)
	begin := time.Now()
	for n := range max(soakRounds, int(total/round)) {
		s := soakRound{t: t, log: log, hub: hub, conns: conns, round: round}
		s.run(rand.New(rand.NewPCG(seed, uint64(n))))
		(&watchServer{hub: hub}).noStreams(t)
		waitGoroutines(t, goroutines)
		runtime.GC()
		runtime.GC() // pools keep what they hold over one
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		t.Logf("%v: %d streams, %d events, %d goroutines, heap %d KiB, %+v", time.Since(begin).Round(time.Millisecond),
			s.streams.Load(), s.events.Load(), runtime.NumGoroutine(), now.HeapAlloc>>10, hub.Stats().Counters)
		if n < soakWarm {
			base, goroutines = now, runtime.NumGoroutine()+soakConns
		} else if now.HeapAlloc > base.HeapAlloc+base.HeapAlloc/2+8<<20 {
			t.Fatalf("heap grew from %d to %d KiB", base.HeapAlloc>>10, now.HeapAlloc>>10)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if st := hub.Stats(); st.Events == 0 || st.Passes == 0 {
		t.Errorf("nothing was done: %+v", st)
	}
}

// waitGoroutines waits until there are no more than limit; 0: no limit yet.
func waitGoroutines(t *testing.T, limit int) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for ; limit > 0 && runtime.NumGoroutine() > limit; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, limit %d", runtime.NumGoroutine(), limit)
		}
	}
}

type soakRound struct {
	t               *testing.T
	log             *soakLog
	hub             *watch.Hub
	conns           []*grpc.ClientConn
	round           time.Duration
	streams, events atomic.Int64
}

func (s *soakRound) run(rnd *rand.Rand) {
	ctx, cancel := context.WithTimeout(s.t.Context(), s.round)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { s.write(ctx) })
	slots := make(chan struct{}, soakStreams)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			wg.Wait()
			return
		}
		own := rand.New(rand.NewPCG(rnd.Uint64(), 1))
		wg.Go(func() {
			defer func() { <-slots }()
			if err := s.stream(ctx, own); err != nil && ctx.Err() == nil {
				s.t.Error(err)
				cancel()
			}
		})
	}
}

// write commits a few hundred revisions a second in small groups.
func (s *soakRound) write(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for range 5 {
			rev := s.log.revision.Load() + 1
			e := soakEntry(rev)
			s.log.revision.Store(rev)
			s.hub.Apply([]revlog.Entry{e})
		}
	}
}

// stream is one client from its coming to its going.
func (s *soakRound) stream(ctx context.Context, rnd *rand.Rand) error {
	life := time.Duration(rnd.Int64N(int64(s.round)))
	own, cancel := context.WithTimeout(ctx, life)
	defer cancel()
	c, err := pb.NewWatchClient(s.conns[rnd.IntN(len(s.conns))]).Watch(own)
	if err == nil {
		s.streams.Add(1)
		err = s.use(c, rnd, life)
	}
	if own.Err() != nil || status.Code(err) == codes.DeadlineExceeded { // the server's clock may be the first
		return nil
	}
	return err
}

func (s *soakRound) use(c pb.Watch_WatchClient, rnd *rand.Rand, life time.Duration) error {
	next := map[int64]int64{}
	step := map[int64]int64{}
	for id := range int64(1 + rnd.IntN(4)) {
		r := &pb.WatchCreateRequest{WatchId: id + 1, PrevKv: rnd.IntN(2) == 0, ProgressNotify: rnd.IntN(2) == 0}
		r.StartRevision = s.log.revision.Load() - int64(rnd.IntN(3000))
		next[r.WatchId], step[r.WatchId] = r.StartRevision, 1
		if r.Key = []byte(soakKey(r.StartRevision)); rnd.IntN(8) == 0 {
			r.Key, r.RangeEnd = []byte("k"), []byte("l")
		} else {
			step[r.WatchId] = soakKeys
		}
		if err := c.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}); err != nil {
			return err
		}
	}
	if rnd.IntN(4) == 0 {
		select { // a client that is busy, or stalled for good
		case <-c.Context().Done():
		case <-time.After(life / time.Duration(1+rnd.IntN(3))):
		}
	}
	for {
		r, err := c.Recv()
		if err != nil {
			return err
		}
		for _, e := range r.Events {
			if e.Kv.ModRevision != next[r.WatchId] {
				return fmt.Errorf("watch %d: got %d, want %d", r.WatchId, e.Kv.ModRevision, next[r.WatchId])
			}
			next[r.WatchId] += step[r.WatchId]
		}
		s.events.Add(int64(len(r.Events)))
	}
}
