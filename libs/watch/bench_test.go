package watch

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/revlog"
)

func benchEntry(rev int64, key string) []revlog.Entry {
	kv := revlog.KV{Key: []byte(key), Value: make([]byte, 256), Create: 2, Mod: rev, Version: rev - 1}
	prev := kv
	prev.Mod--
	return []revlog.Entry{{Rev: rev, Events: []revlog.Event{{KV: kv, Prev: prev, HasPrev: true}}}}
}

// BenchmarkFanOut: 1,000 watchers with prev_kv on one prefix over 10 streams, without gRPC. One op is one event fanned
// out to all.
func BenchmarkFanOut(b *testing.B) {
	const streams, perStream = 10, 100
	h := New(Options{RingBytes: 1 << 30, InboxBytes: 1 << 30})
	h.Start(&memLog{}, 1)
	var wg sync.WaitGroup
	for range streams {
		s, err := h.Open()
		if err != nil {
			b.Fatal(err)
		}
		for range perStream {
			r := CreateRequest{Key: []byte("/k/"), RangeEnd: []byte("/k0"), PrevKV: true}
			if err := s.Create(context.Background(), r); err != nil {
				b.Fatal(err)
			}
		}
		wg.Go(func() {
			defer s.Close()
			for left := b.N * perStream; left > 0; {
				turn, _ := s.Next(context.Background())
				for i := range turn {
					for _, e := range turn[i].Events {
						if e.Wire(true).Len() > 0 {
							left--
						}
					}
				}
				s.Release(turn)
			}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		h.Apply(benchEntry(int64(i)+2, "/k/x"))
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*streams*perStream), "ns/event")
	h.Close()
}

// BenchmarkApply: one event matched by one watch while n watches on other prefixes exist. The garbage collector is
// off: what a larger heap costs it depends on how often it runs, and would hide the cost of matching.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("others=%d", n), func(b *testing.B) {
			c := newCore(Options{}.withDefaults(), 1)
			s := &Stream{}
			c.open(s)
			c.create(s, CreateRequest{Key: []byte("/k/"), RangeEnd: []byte("/k0")}, 1, -1)
			for i := range n {
				p := fmt.Sprintf("/k%d/%d/", i%1000, i)
				c.create(s, CreateRequest{Key: []byte(p), RangeEnd: []byte(prefixEnd(p))}, 1, -1)
			}
			var turn []Response
			for turn = c.take(s, nil); len(turn) > 0; turn = c.take(s, turn[:0]) {
				continue
			}
			entries := make([][]revlog.Entry, b.N)
			for i := range entries {
				entries[i] = benchEntry(int64(i)+2, "/k/x")
			}
			runtime.GC()
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				c.apply(entries[i], time.Second)
				turn = c.take(s, turn[:0])
			}
		})
	}
}

// BenchmarkWatcherMemory reports the bytes of the core's memory per watcher, with one group and with a group each.
func BenchmarkWatcherMemory(b *testing.B) {
	for _, own := range []bool{false, true} {
		b.Run(fmt.Sprintf("ownGroup=%t", own), func(b *testing.B) {
			const streams, perStream = 1000, 100
			var perWatcher float64
			for range b.N {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				c := newCore(Options{}.withDefaults(), 1)
				for i := range streams {
					s := &Stream{}
					c.open(s)
					for j := range perStream {
						r := CreateRequest{Key: []byte("/k/"), RangeEnd: []byte("/k0")}
						if own {
							p := fmt.Sprintf("/registry/%d/%d/", i, j)
							r.Key, r.RangeEnd = []byte(p), []byte(prefixEnd(p))
						}
						c.create(s, r, 1, -1)
					}
					for len(c.take(s, nil)) > 0 {
						continue
					}
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				perWatcher = float64(after.HeapAlloc-before.HeapAlloc) / (streams * perStream)
				runtime.KeepAlive(c)
			}
			b.ReportMetric(perWatcher, "B/watcher")
		})
	}
}
