//go:build unix

package feed

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/headwaterdb/headwater/libs/bus/nats"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/watch/history"
)

// hubLog is a benchLog for hub and history.
type hubLog struct{ *benchLog }

func (l hubLog) CompactRevision() int64 { return 0 }

func (l hubLog) ReadLog(ctx context.Context, from int64, n, bytes int) (es []revlog.Entry, next int64, err error) {
	ps, next, _, err := l.ReadPayloads(ctx, from, n, bytes)
	for _, p := range ps {
		e, err := l.codec.Parse(p.Bytes, p.Rev)
		if err != nil {
			return nil, 0, err
		}
		es = append(es, e)
	}
	return es, next, err
}

func (l hubLog) ReadValues(context.Context, []*revlog.KV) ([][]byte, error) { return nil, errDown }

// BenchmarkHubs brings entries to two hubs as two watchhub pods have them: a follower, a history on disk and a hub
// without watchers. A tailer reads the log and publishes over NATS. Groups of 28 entries are committed every 4 ms,
// after others have filled the memory of the hubs.
// "cpu-ns/op" is the processor time of everything per entry, that of NATS and of the benchmark included.
func BenchmarkHubs(b *testing.B) {
	const hubs, group, every, before = 2, 28, 4 * time.Millisecond, 200_000
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	log := newBenchLog(before + b.N)
	all := log.entries
	log.entries = all[:1]
	last := all[len(all)-1].Rev
	ctx, cancel := context.WithCancel(context.Background())
	var wg, done sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	connect := func() *nats.Bus {
		c, err := nats.Connect(s.ClientURL(), nats.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		return c
	}
	writer := connect()
	for i := range hubs {
		c := connect()
		cache, err := history.Open(b.TempDir(), history.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		hub := watch.New(watch.Options{})
		done.Add(1)
		f := NewFollower(log, c, FollowerOptions{
			Keyspace: keyspace,
			Reset: func(at int64) {
				if err := cache.Start(ctx, hubLog{log}, at); err != nil {
					b.Error(err)
				}
				hub.Start(cache.Over(hubLog{log}), at)
			},
			Apply: func(e []revlog.Payload) {
				hub.ApplyPayloads(e)
				cache.Append(e)
				if e[len(e)-1].Rev == last {
					done.Done()
				}
			},
		})
		wg.Go(func() { _ = f.Run(ctx) })
		<-f.Ready()
		defer func() { hub.Close(); _ = cache.Close() }()
		if i > 0 {
			continue
		}
		t := NewTailer(log, c, TailerOptions{Keyspace: keyspace})
		wg.Go(func() { _ = t.Run(ctx) })
		for f.Stats().Frames == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	var began, ended runtime.MemStats
	var cpu time.Duration
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 1; n < len(all); {
		<-tick.C
		if n < before {
			n += 16 * group
		} else if n += group; cpu == 0 {
			runtime.ReadMemStats(&began)
			b.ResetTimer()
			cpu = processorTime(b)
		}
		n = min(n, len(all))
		log.mu.Lock()
		log.entries = all[:n]
		close(log.changed)
		log.changed = make(chan struct{})
		log.mu.Unlock()
		writer.Nudge(keyspace)
	}
	done.Wait()
	b.StopTimer()
	runtime.ReadMemStats(&ended)
	b.ReportMetric(float64(processorTime(b)-cpu)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(ended.TotalAlloc-began.TotalAlloc)/float64(b.N), "B/entry")
	b.ReportMetric(float64(ended.Mallocs-began.Mallocs)/float64(b.N), "allocs/entry")
}
