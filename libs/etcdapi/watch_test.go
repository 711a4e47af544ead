package etcdapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/headwaterdb/headwater/libs/watch"
)

func TestWatchRefusals(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{})
	s.log.commit(watchOp{"a", "1"})
	c := s.stream(t)
	c.create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("b")})
	c.want(wrRefused(2, "mvcc: watcher range is empty"))
	c.create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: -1})
	c.want(wrRefused(2, "etcdserver: mvcc: required revision has been compacted"))
	c.create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 5})
	c.want(wrCreated(2, 5))
	c.create(&pb.WatchCreateRequest{Key: []byte("b"), WatchId: 5})
	c.want(wrRefused(2, "mvcc: duplicate watch ID provided on the WatchStream"))
}

func TestWatchIDs(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{})
	c := s.stream(t)
	for _, ids := range [][2]int64{{0, 0}, {2, 2}, {0, 1}, {0, 3}, {-3, -3}, {0, 4}} {
		c.create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: ids[0]})
		c.want(wrCreated(1, ids[1]))
	}
	c.cancel(1)
	c.want(&pb.WatchResponse{Header: wrAt(1), WatchId: 1, Canceled: true})
	c.cancel(77) // unknown: no answer
	if err := c.Send(&pb.WatchRequest{}); err != nil {
		t.Fatal(err)
	}
	c.create(&pb.WatchCreateRequest{Key: []byte("a")})
	c.want(wrCreated(1, 5)) // ids are not used again unless asked for
	c.create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 1})
	c.want(wrCreated(1, 1))
	if got := s.hub.Stats().Watchers; got != 7 {
		t.Errorf("watchers: %d", got)
	}
}

func TestWatchLive(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{})
	s.log.commit(watchOp{"k/a", "0"})
	c := s.stream(t)
	c.create(watchPrefix("k/"))
	c.want(wrCreated(2, 0))
	s.log.commit(watchOp{"k/b", "1"}, watchOp{"x", "1"}, watchOp{"k/a", "2"})
	c.want(wrEvents(3, 0, evPut("k/b", "1", 3, 3, 1), evPut("k/a", "2", 2, 3, 2)))
	s.log.commit(watchOp{"x", "2"})
	s.log.commit(watchOp{"k/a", opDeleted})
	c.want(wrEvents(5, 0, evDel("k/a", 5)))
}

func TestWatchEmptyKey(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{})
	one, all := s.stream(t), s.stream(t)
	one.create(&pb.WatchCreateRequest{})
	one.want(wrCreated(1, 0))
	all.create(&pb.WatchCreateRequest{RangeEnd: []byte{0}})
	all.want(wrCreated(1, 0))
	s.log.commit(watchOp{"a", "1"})
	s.log.commit(watchOp{"\x00", "2"})
	one.want(wrEvents(3, 0, evPut("\x00", "2", 3, 3, 1)))
	var got []*mvccpb.Event
	for len(got) < 2 {
		got = append(got, all.recv().Events...)
	}
	if diff := cmp.Diff([]*mvccpb.Event{evPut("a", "1", 2, 2, 1), evPut("\x00", "2", 3, 3, 1)}, got,
		protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestWatchFiltersAndPrevKV(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{})
	noPut, noDel, prev := s.stream(t), s.stream(t), s.stream(t)
	noPut.create(&pb.WatchCreateRequest{
		Key: []byte("a"), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT},
	})
	noPut.want(wrCreated(1, 0))
	noDel.create(&pb.WatchCreateRequest{
		Key: []byte("a"), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE},
	})
	noDel.want(wrCreated(1, 0))
	prev.create(&pb.WatchCreateRequest{Key: []byte("a"), PrevKv: true})
	prev.want(wrCreated(1, 0))

	s.log.commit(watchOp{"a", "1"})
	prev.want(wrEvents(2, 0, evPut("a", "1", 2, 2, 1)))
	noDel.want(wrEvents(2, 0, evPut("a", "1", 2, 2, 1)))
	s.log.commit(watchOp{"a", opDeleted})
	ev := evDel("a", 3)
	ev.PrevKv = evPut("a", "1", 2, 2, 1).Kv
	prev.want(wrEvents(3, 0, ev))
	noPut.want(wrEvents(3, 0, evDel("a", 3)))
	noDel.quiet(3)
	// Progress goes on although all was filtered.
	noDel.progress()
	noDel.want(&pb.WatchResponse{Header: wrAt(3), WatchId: -1})
}

func TestWatchStartRevisions(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{})
	for i := range 8 {
		s.log.commit(watchOp{"a", fmt.Sprint(i)}) // revisions 2…9
	}
	s.log.setCompact(5)
	ev := func(rev int64) *mvccpb.Event { return evPut("a", fmt.Sprint(rev-2), 2, rev, rev-1) }
	for _, tc := range []struct {
		name  string
		start int64
		want  []*pb.WatchResponse
	}{
		{"compacted", 4, []*pb.WatchResponse{wrCreated(9, 0), {Header: wrAt(0), Canceled: true, CompactRevision: 5}}},
		{"at the compact revision", 5, []*pb.WatchResponse{wrCreated(9, 0), wrEvents(9, 0, ev(5), ev(6), ev(7), ev(8), ev(9))}},
		{"past", 9, []*pb.WatchResponse{wrCreated(9, 0), wrEvents(9, 0, ev(9))}},
		{"next", 10, []*pb.WatchResponse{wrCreated(9, 0)}},
		{"far", math.MaxInt64, []*pb.WatchResponse{wrCreated(9, 0)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := s.stream(t)
			c.create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: tc.start})
			for _, w := range tc.want {
				c.want(w)
			}
			c.quiet(9)
		})
	}
	future := s.stream(t)
	future.create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 11})
	future.want(wrCreated(9, 0))
	future.progress() // silent: the watch has not started
	future.quiet(9)
	s.log.commit(watchOp{"a", "8"})
	s.log.commit(watchOp{"a", "9"})
	future.want(wrEvents(11, 0, ev(11)))
	future.progress()
	future.want(&pb.WatchResponse{Header: wrAt(11), WatchId: -1})
}

func TestWatchCompactedIDStaysTaken(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{})
	for range 5 {
		s.log.commit(watchOp{"a", ""})
	}
	s.log.setCompact(4)
	c := s.stream(t)
	c.create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 2, WatchId: 3})
	c.want(wrCreated(6, 3))
	c.want(&pb.WatchResponse{Header: wrAt(0), WatchId: 3, Canceled: true, CompactRevision: 4})
	c.create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 3})
	c.want(wrRefused(6, "mvcc: duplicate watch ID provided on the WatchStream"))
	c.cancel(3)
	c.want(&pb.WatchResponse{Header: wrAt(6), WatchId: 3, Canceled: true})
	c.create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 3})
	c.want(wrCreated(6, 3))
}

func TestWatchFragments(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{MaxRequestBytes: 1}) // fragments of 512 KiB
	big := string(bytes.Repeat([]byte{'v'}, 200<<10))
	var ops []watchOp
	var want []*mvccpb.Event
	for i := range 7 {
		k := fmt.Sprint("k/", i)
		ops = append(ops, watchOp{k, big})
		want = append(want, evPut(k, big, 2, 2, 1))
	}
	whole, split := s.stream(t), s.stream(t)
	whole.create(watchPrefix("k/"))
	whole.want(wrCreated(1, 0))
	r := watchPrefix("k/")
	r.Fragment = true
	split.create(r)
	split.want(wrCreated(1, 0))
	s.log.commit(ops...)
	whole.want(wrEvents(2, 0, want...))
	for len(want) > 0 {
		n := min(2, len(want))
		w := wrEvents(2, 0, want[:n]...)
		want = want[n:]
		w.Fragment = len(want) > 0
		split.want(w)
	}
	s.log.commit(watchOp{"k/small", "1"})
	split.want(wrEvents(3, 0, evPut("k/small", "1", 3, 3, 1)))
}

func TestWatchProgressRequest(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{})
	c := s.stream(t)
	c.progress() // no watches: silent
	c.create(&pb.WatchCreateRequest{Key: []byte("a")})
	c.want(wrCreated(1, 0))
	for i := range 20 {
		rev := s.log.commit(watchOp{"b", fmt.Sprint(i)})
		c.progress()
		c.want(&pb.WatchResponse{Header: wrAt(rev), WatchId: -1})
	}
	rev := s.log.commit(watchOp{"a", "1"})
	c.progress()
	c.want(wrEvents(rev, 0, evPut("a", "1", rev, rev, 1)))
	c.want(&pb.WatchResponse{Header: wrAt(rev), WatchId: -1})
}

func TestWatchProgressNotify(t *testing.T) {
	s := startWatch(t, watch.Options{ProgressInterval: watch.MinProgressInterval}, WatchOptions{})
	c := s.stream(t)
	rev := s.log.commit(watchOp{"b", "1"})
	c.create(&pb.WatchCreateRequest{Key: []byte("a"), ProgressNotify: true})
	c.want(wrCreated(rev, 0))
	c.create(&pb.WatchCreateRequest{Key: []byte("a")})
	c.want(wrCreated(rev, 1))
	c.create(&pb.WatchCreateRequest{Key: []byte("a"), ProgressNotify: true, StartRevision: rev + 1})
	c.want(wrCreated(rev, 2)) // has not started: silent
	for range 3 {
		c.want(&pb.WatchResponse{Header: wrAt(rev), WatchId: 0})
	}
}

func TestWatchServerStops(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{})
	const streams = 50
	clients := make([]watchClient, streams)
	for i := range clients {
		clients[i] = s.stream(t)
		for range 20 {
			clients[i].create(watchPrefix("k"))
			clients[i].recv()
		}
	}
	// One client that never reads again while there is more for it than its window holds.
	stalled := s.stream(t)
	stalled.create(watchPrefix("big"))
	stalled.recv()
	for range 20 {
		s.log.commit(watchOp{"big", string(make([]byte, 100<<10))})
	}
	begin := time.Now()
	s.hub.Drain()
	for _, c := range clients {
		if _, err := c.Recv(); status.Code(err) != codes.Unavailable ||
			status.Convert(err).Message() != "etcdserver: server stopped" {
			t.Fatalf("stream ended with %v", err)
		}
	}
	t.Logf("%d streams ended after %v", streams, time.Since(begin))
	// gRPC cannot end the stalled one before its client reads or the transport is closed: GracefulStop alone would
	// wait for it.
	s.srv.Stop()
	s.hub.Close()
	s.noStreams(t)
}

func TestWatchCloseSendKeepsEvents(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{})
	c := s.stream(t)
	c.create(&pb.WatchCreateRequest{Key: []byte("a")})
	c.want(wrCreated(1, 0))
	if err := c.CloseSend(); err != nil {
		t.Fatal(err)
	}
	s.log.commit(watchOp{"a", "1"})
	c.want(wrEvents(2, 0, evPut("a", "1", 2, 2, 1)))
}

func TestWatchLimits(t *testing.T) {
	s := startWatch(t, watch.Options{MaxStreams: 1, MaxWatchesPerStream: 1}, WatchOptions{})
	c := s.stream(t)
	c.create(&pb.WatchCreateRequest{Key: []byte("a")})
	c.want(wrCreated(1, 0))
	c.create(&pb.WatchCreateRequest{Key: []byte("a")})
	c.want(wrRefused(1, "etcdserver: too many requests"))
	if _, err := s.stream(t).Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("second stream: %v", err)
	}
}

// TestWatchStalledStream: a client that does not read costs bounded memory, delays no other, and gets everything when
// it reads again (I7).
func TestWatchStalledStream(t *testing.T) {
	s := startWatch(t, watch.Options{RingBytes: 64 << 10, TurnBytes: 32 << 10, ResponseBytes: 16 << 10}, WatchOptions{})
	slow, fast := s.stream(t), s.stream(t)
	for _, c := range []watchClient{slow, fast} {
		for id := range int64(3) {
			c.create(watchPrefix("k"))
			c.want(wrCreated(1, id))
		}
	}
	const revs = 3000
	value := string(make([]byte, 1000))
	read := func(c watchClient) error {
		next := map[int64]int64{0: 2, 1: 2, 2: 2}
		for len(next) > 0 {
			r, err := c.Recv()
			if err != nil {
				return err
			}
			for _, e := range r.Events {
				if e.Kv.ModRevision != next[r.WatchId] {
					return fmt.Errorf("watch %d: got %d, want %d", r.WatchId, e.Kv.ModRevision, next[r.WatchId])
				}
				next[r.WatchId]++
			}
			if next[r.WatchId] == revs+2 {
				delete(next, r.WatchId)
			}
		}
		return nil
	}
	errc := make(chan error, 1)
	go func() { errc <- read(fast) }()
	for range revs {
		s.log.commit(watchOp{"k", value})
	}
	if err := <-errc; err != nil {
		t.Fatal("fast: ", err)
	}
	st := s.hub.Stats()
	if st.RingBytes > 64<<10 {
		t.Errorf("ring of %d bytes", st.RingBytes)
	}
	if err := read(slow); err != nil {
		t.Fatal("slow: ", err)
	}
	if st := s.hub.Stats(); st.Fallen == 0 || st.Passes == 0 || st.Lagging != 0 {
		t.Errorf("did not go through catch-up: %+v", st)
	}
}

// TestWatchClientGoes: nothing of a stream is left when its client is gone.
func TestWatchClientGoes(t *testing.T) {
	s := startWatch(t, watch.Options{}, WatchOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	c, err := pb.NewWatchClient(s.conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	watchClient{t, c}.create(watchPrefix("a"))
	if _, err := c.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := c.Recv(); err == io.EOF || status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	s.noStreams(t)
}

// noStreams waits until the hub has forgotten all streams and watches.
func (s *watchServer) noStreams(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		st := s.hub.Stats()
		if st.Streams == 0 && st.Watchers == 0 && st.Groups == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left: %+v", st)
		}
	}
}
