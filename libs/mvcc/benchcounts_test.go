package mvcc_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

var benchKeys = flag.Int64("bench-keys", 200_000, "keys of BenchmarkCount")

// indexed are the features with the count index and without.
var indexed = map[string]mvcc.Features{"index": mvcc.FeaturesAll, "none": mvcc.FeaturesAll &^ mvcc.FeatureCounts}

func openBench(b *testing.B, o mvcc.Options) *mvcc.Store {
	e, err := pebble.Open(b.TempDir(), pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := open(b, e, o)
	b.Cleanup(func() {
		s.Close()
		e.Close()
	})
	return s
}

// BenchmarkCreate creates keys in order and at random, which touches many buckets.
func BenchmarkCreate(b *testing.B) {
	for _, name := range []string{"none", "index"} {
		for _, order := range []string{"sequential", "random"} {
			b.Run(fmt.Sprintf("counts=%s/keys=%s", name, order), func(b *testing.B) {
				s := openBench(b, mvcc.Options{Features: indexed[name]})
				value := make([]byte, 256)
				rand.NewChaCha8([32]byte{}).Read(value)
				var next atomic.Uint64
				b.SetParallelism(100)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						n := next.Add(1)
						if order == "random" {
							n = rand.Uint64()
						}
						key := binary.BigEndian.AppendUint64([]byte("/registry/pods/"), n)
						if _, err := s.Put(context.Background(), &mvcc.PutRequest{Key: key, Value: value}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// BenchmarkCount counts all keys, and lists a first page of 500 with its count.
func BenchmarkCount(b *testing.B) {
	for _, name := range []string{"none", "index"} {
		s := openBench(b, mvcc.Options{Features: indexed[name]})
		fillSome(b, s, *benchKeys)
		keep(b, s)
		begin, end := []byte("/registry/pods/"), []byte("/registry/pods0")
		for what, r := range map[string]mvcc.RangeRequest{
			"all": {CountOnly: true}, "page of 500": {Limit: 500},
		} {
			r.Key, r.End = begin, end
			b.Run(fmt.Sprintf("counts=%s/%s", name, what), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					put(b, s, "/another", "") // so that nothing is remembered
					b.StartTimer()
					info, err := s.Range(context.Background(), &r, func(*mvcc.KV) error { return nil })
					if err != nil || info.Count != *benchKeys {
						b.Fatal(info, err)
					}
				}
			})
		}
	}
}

// fillSome makes n keys, in groups.
func fillSome(b *testing.B, s *mvcc.Store, n int64) {
	for i := int64(0); i < n; {
		var t mvcc.TxnRequest
		for ; len(t.Success) < 1000 && i < n; i++ {
			key := fmt.Appendf(nil, "/registry/pods/ns-%d/pod-%08d", i%100, i)
			t.Success = append(t.Success, mvcc.Op{Put: &mvcc.PutRequest{Key: key, Value: make([]byte, 100)}})
		}
		if _, err := s.Txn(context.Background(), &t); err != nil {
			b.Fatal(err)
		}
	}
}
