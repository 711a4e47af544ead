package mvcc_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

func benchStore(b *testing.B) *mvcc.Store {
	e, err := pebble.Open(b.TempDir(), pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s, err := mvcc.Open(context.Background(), e, mvcc.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close(); e.Close() })
	return s
}

func BenchmarkPut(b *testing.B) {
	for _, clients := range []int{1, 200} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := benchStore(b)
			value := make([]byte, 256)
			rand.NewChaCha8([32]byte{}).Read(value)
			b.SetParallelism(max(1, clients/2))
			if clients == 1 {
				for i := 0; b.Loop(); i++ {
					key := binary.BigEndian.AppendUint64(nil, rand.Uint64())
					s.Put(context.Background(), &mvcc.PutRequest{Key: key, Value: value})
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					key := binary.BigEndian.AppendUint64(nil, rand.Uint64())
					if _, err := s.Put(context.Background(), &mvcc.PutRequest{Key: key, Value: value}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkRange(b *testing.B) {
	s := benchStore(b)
	const n = 10000
	value := make([]byte, 256)
	var next atomic.Int64
	b.SetParallelism(100)
	fill := func(i int64) []byte { return fmt.Appendf(nil, "/registry/pods/%08d", i) }
	done := make(chan struct{}, 100)
	for range 100 {
		go func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				s.Put(context.Background(), &mvcc.PutRequest{Key: fill(i), Value: value})
			}
			done <- struct{}{}
		}()
	}
	for range 100 {
		<-done
	}
	b.Run("key", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Range(context.Background(), &mvcc.RangeRequest{Key: fill(rand.Int64N(n) + 1)},
				func(*mvcc.KV) error {
					return nil
				})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		keys := 0
		for b.Loop() {
			start := []byte("/registry/pods/")
			var rev int64
			for {
				var last []byte
				info, err := s.Range(context.Background(), &mvcc.RangeRequest{
					Key: start, End: []byte("/registry/pods0"), Limit: 1000, Rev: rev,
				}, func(kv *mvcc.KV) error {
					last = append(last[:0], kv.Key...)
					keys++
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				if !info.More {
					break
				}
				rev = info.Rev
				start = append(append([]byte(nil), last...), 0)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(keys), "ns/key")
	})
}
