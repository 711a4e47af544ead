//go:build unix

package feed

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/bus/nats"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// benchLog is a log of realistic entries in memory: 256 B values that replace others.
type benchLog struct {
	*fakeLog
	codec revlog.Codec
}

func (l *benchLog) Check(p revlog.Payload) error {
	return l.codec.Check(p.Bytes, p.Rev)
}

func newBenchLog(n int) *benchLog {
	l := &benchLog{fakeLog: newFakeLog()}
	value := make([]byte, 256)
	for i := range n {
		rev := int64(i + 2)
		key := fmt.Appendf(nil, "/registry/pods/default/pod-%06d", i%100_000)
		kv := revlog.KV{Key: key, Value: value, Create: 1, Version: 2, Mod: rev}
		prev := kv
		prev.Mod = 1
		b, _ := l.codec.AppendEvent(nil, &revlog.Event{KV: kv, Prev: prev, HasPrev: true}, rev)
		l.entries = append(l.entries, revlog.Payload{Rev: rev, Bytes: b})
	}
	return l
}

// BenchmarkFeed brings b.N entries from the log through a tailer, a bus and followers: at once, which is more than
// queues hold, or at a steady pace. "refilled" is the part that a follower had to read from the log since frames were
// lost, "cpu-ns/op" the processor time of everything, NATS included, per entry; p50 and p99 are times from commit to
// Apply.
func BenchmarkFeed(b *testing.B) {
	natsServer := func(b *testing.B) bus.Bus {
		s, err := server.NewServer(&server.Options{
			Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		})
		if err != nil {
			b.Fatal(err)
		}
		s.Start()
		b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		c, err := nats.Connect(s.ClientURL(), nats.Options{})
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	for _, medium := range []struct {
		name string
		open func(*testing.B) bus.Bus
	}{{"local", func(*testing.B) bus.Bus { return bus.NewLocal() }}, {"nats", natsServer}} {
		for _, hubs := range []int{1, 4} {
			for _, pace := range []int{0, 1, 20} {
				b.Run(fmt.Sprintf("%s/hubs=%d/pace=%d", medium.name, hubs, pace), func(b *testing.B) {
					log := newBenchLog(b.N)
					c := medium.open(b)
					defer c.Close()
					run(b, log, c, hubs, pace)
				})
			}
		}
	}
}

// run commits pace entries per millisecond; 0: all at once.
func run(b *testing.B, log *benchLog, c bus.Bus, hubs, pace int) {
	all := log.entries
	log.entries = all[:1] // the followers begin before the rest is committed
	last := all[len(all)-1].Rev
	committed := make([]time.Time, len(all))
	var latencies []time.Duration // of the first hub
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var followers []*Follower
	var done sync.WaitGroup
	for i := range hubs {
		done.Add(1)
		f := NewFollower(log, c, FollowerOptions{
			Keyspace: keyspace, Reset: func(int64) {},
			Apply: func(e []revlog.Payload) {
				rev := e[len(e)-1].Rev
				if now := time.Now(); i == 0 && pace > 0 {
					log.mu.Lock()
					latencies = append(latencies, now.Sub(committed[rev-1]))
					log.mu.Unlock()
				}
				if rev == last {
					done.Done()
				}
			},
		})
		wg.Go(func() { _ = f.Run(ctx) })
		<-f.Ready()
		followers = append(followers, f)
	}
	tailer := NewTailer(log, c, TailerOptions{Keyspace: keyspace})
	wg.Go(func() { _ = tailer.Run(ctx) })
	for followers[hubs-1].Stats().Frames == 0 {
		time.Sleep(time.Millisecond)
	}
	b.ResetTimer()
	cpu := processorTime(b)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 1; n < len(all); {
		if n = len(all); pace > 0 {
			<-tick.C
			n = min(len(log.entries)+pace, len(all))
		}
		log.mu.Lock()
		for i := len(log.entries); i < n; i++ {
			committed[i] = time.Now()
		}
		log.entries = all[:n]
		close(log.changed)
		log.changed = make(chan struct{})
		log.mu.Unlock()
		c.Nudge(keyspace)
	}
	done.Wait()
	b.StopTimer()
	b.ReportMetric(float64(processorTime(b)-cpu)/float64(b.N), "cpu-ns/op")
	refilled := int64(0)
	for _, f := range followers {
		refilled += f.Stats().Refilled
	}
	b.ReportMetric(float64(refilled)/float64(b.N*hubs), "refilled")
	if slices.Sort(latencies); len(latencies) > 0 {
		b.ReportMetric(float64(latencies[len(latencies)/2].Microseconds()), "p50-us")
		b.ReportMetric(float64(latencies[len(latencies)*99/100].Microseconds()), "p99-us")
	}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
