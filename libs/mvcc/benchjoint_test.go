//go:build unix

package mvcc_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// BenchmarkSpread puts with so many writers at a time, in so many Stores of one engine. CPU is that of the process.
func BenchmarkSpread(b *testing.B) {
	const writers = 64
	for _, test := range []struct {
		stores int
		joint  bool
	}{{1, false}, {1000, false}, {1000, true}} {
		b.Run(fmt.Sprintf("stores=%d/joint=%v", test.stores, test.joint), func(b *testing.B) {
			e := openEngine(b, pebble.Options{})
			var j *mvcc.Joint
			if test.joint {
				j = mvcc.NewJoint(e, nil)
				b.Cleanup(func() { _ = j.Close() })
			}
			stores := make([]*mvcc.Store, test.stores)
			for i := range stores {
				stores[i] = open(b, e, mvcc.Options{Prefix: fmt.Appendf(nil, "\xff%03d", i), Joint: j})
				put(b, stores[i], "k0", "")
			}
			b.ReportAllocs()
			b.ResetTimer()
			was := cpuTime(b)
			var next atomic.Int64
			var wg sync.WaitGroup
			for w := range writers {
				key := []byte(fmt.Sprint("k", w))
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						p := &mvcc.PutRequest{Key: key, Value: make([]byte, 40)}
						if _, err := stores[i%int64(len(stores))].Put(b.Context(), p); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(cpuTime(b)-was)/float64(b.N), "cpu-ns/op")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
