package etcdapi

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/porttest"
	"github.com/headwaterdb/headwater/libs/watch"
)

// TestWatchClientResumes: clientv3 keeps its watches over servers that drain and stop, without a gap or a duplicate.
func TestWatchClientResumes(t *testing.T) {
	checkLeaks(t)
	addr := porttest.Addr(t)
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := newWatchServer()
	stop := s.listen(lis, watch.Options{}, WatchOptions{})
	s.log.commit(watchOp{"k", "0"})
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{addr}, Logger: zap.NewNop(), DialTimeout: 2 * time.Minute,
		BackoffWaitBetween: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	watches := map[string]clientv3.WatchChan{
		"past":   client.Watch(ctx, "k", clientv3.WithRev(2), clientv3.WithPrevKV()),
		"now":    client.Watch(ctx, "k", clientv3.WithCreatedNotify()),
		"prefix": client.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithRev(2), clientv3.WithFragment()),
	}
	if r := <-watches["now"]; !r.Created || r.Header.Revision != 2 {
		t.Fatalf("got %+v", r)
	}
	const rounds, perRound = 4, 100
	last := int64(2 + rounds*perRound)
	errc := make(chan error, len(watches))
	var reached atomic.Int64 // how far the first watch is
	for name, ch := range watches {
		next := int64(2)
		if name == "now" {
			next = 3
		}
		go func() { errc <- readAll(name, ch, next, last, &reached) }()
	}
	for round := range rounds {
		for i := range perRound {
			s.log.commit(watchOp{"k", fmt.Sprint(round, i)})
		}
		if round == rounds-1 {
			break
		}
		// Somewhere in the middle of the round's events.
		for reached.Load() < int64(round*perRound+perRound/2) {
			if ctx.Err() != nil {
				t.Fatalf("round %d: the watch does not get on", round)
			}
			time.Sleep(100 * time.Microsecond)
		}
		stop()
		if lis, err = net.Listen("tcp", addr); err != nil {
			t.Fatal(err)
		}
		stop = s.listen(lis, watch.Options{}, WatchOptions{})
	}
	for range watches {
		if err := <-errc; err != nil {
			t.Error(err)
		}
	}
	cancel()
	_ = client.Close()
	stop()
}

// readAll checks that a watch brings every revision from next to last once; a watch from "now" may bring its first
// again after a reconnect, since clientv3 resumes it at the created revision, inclusive.
func readAll(name string, ch clientv3.WatchChan, next, last int64, reached *atomic.Int64) error {
	first := next
	for r := range ch {
		if err := r.Err(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, e := range r.Events {
			if name == "now" && next == first && e.Kv.ModRevision == first-1 {
				continue
			}
			if e.Kv.ModRevision != next {
				return fmt.Errorf("%s: got %d, want %d", name, e.Kv.ModRevision, next)
			}
			if name == "past" && !e.IsCreate() && (e.PrevKv == nil || e.PrevKv.ModRevision != next-1) {
				return fmt.Errorf("%s: %d has prev_kv %v", name, next, e.PrevKv)
			}
			next++
		}
		if name == "past" {
			reached.Store(next)
		}
		if next > last {
			return nil
		}
	}
	return fmt.Errorf("%s: closed at %d", name, next)
}

// TestWatchClientCompacted: clientv3 reports compaction as an error with the revision to go on from.
func TestWatchClientCompacted(t *testing.T) {
	checkLeaks(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newWatchServer()
	defer s.listen(lis, watch.Options{}, WatchOptions{})()
	for range 5 {
		s.log.commit(watchOp{"k", ""})
	}
	s.log.setCompact(4)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{lis.Addr().String()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r := <-client.Watch(ctx, "k", clientv3.WithRev(3))
	if r.CompactRevision != 4 || r.Err() == nil {
		t.Errorf("got %+v, error %v", r, r.Err())
	}
	if err := client.RequestProgress(ctx); err != nil {
		t.Error(err)
	}
}
