package pebble

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
)

// benchStore opens a store with the options of production in a temporary directory.
func benchStore(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// cpu returns the CPU time of this process in nanoseconds: on a machine that others use it tells more than the clock.
func cpu() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

const (
	benchGroup = 100
	benchValue = 256
)

func benchKey(i uint64) []byte { return fmt.Appendf(nil, "key/%016x", i*0x9e3779b97f4a7c15) }

// commitGroup does what mvcc does for a group of puts: two reads and four rows each.
func commitGroup(b *testing.B, s *Store, next uint64, value []byte) engine.Pending {
	ctx := context.Background()
	t, err := s.Begin(ctx)
	if err != nil {
		b.Fatal(err)
	}
	keys := make([][]byte, benchGroup)
	for i := range keys {
		keys[i] = append([]byte("ks/i/"), benchKey(next+uint64(i))...)
	}
	if _, err := t.GetMany(ctx, keys); err != nil {
		b.Fatal(err)
	}
	t.UseStamps(benchGroup)
	for i := range keys {
		log := append([]byte("ks/l/"), make([]byte, engine.StampLen)...)
		binary.BigEndian.PutUint16(log[len(log)-2:], uint16(i))
		t.SetStampedKey(log, 5, value)
		rec := make([]byte, 40)
		binary.BigEndian.PutUint16(rec[10:], uint16(i))
		t.SetStampedValue(keys[i], rec, 0)
		t.Set(append([]byte("ks/v/"), keys[i][5:]...), value)
	}
	t.SetStampedValue([]byte("ks/head"), make([]byte, engine.StampLen), 0)
	p, err := t.Commit(ctx)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// BenchmarkCommitGroup commits groups of 100 puts, the next one prepared while the last one syncs. ns/put is the
// figure.
func BenchmarkCommitGroup(b *testing.B) {
	s := benchStore(b)
	value := make([]byte, benchValue)
	r := rand.NewChaCha8([32]byte{1})
	waits := make(chan engine.Pending, 4)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p := range waits {
			if _, err := p.Wait(context.Background()); err != nil {
				b.Error(err)
			}
		}
	}()
	b.ReportAllocs()
	b.ResetTimer()
	start := cpu()
	for i := range b.N {
		_, _ = r.Read(value)
		waits <- commitGroup(b, s, uint64(i*benchGroup), value)
	}
	close(waits)
	<-done
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchGroup), "ns/put")
	b.ReportMetric((cpu()-start)/float64(b.N*benchGroup), "cpu-ns/put")
}

// BenchmarkCommitSingle is one client that puts one key at a time.
func BenchmarkCommitSingle(b *testing.B) {
	s := benchStore(b)
	ctx := context.Background()
	value := make([]byte, benchValue)
	b.ReportAllocs()
	for i := range b.N {
		t, err := s.Begin(ctx)
		if err != nil {
			b.Fatal(err)
		}
		t.UseStamps(1)
		t.SetStampedKey(append([]byte("ks/l/"), make([]byte, engine.StampLen)...), 5, value)
		t.Set(benchKey(uint64(i)), value)
		p, err := t.Commit(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Wait(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// filled returns a store with n rows of benchValue bytes, in tables and memtables as a run leaves them.
func filled(b *testing.B, n int) *Store {
	s := benchStore(b)
	ctx := context.Background()
	value := make([]byte, benchValue)
	r := rand.NewChaCha8([32]byte{2})
	for i := 0; i < n; {
		t, err := s.Begin(ctx)
		if err != nil {
			b.Fatal(err)
		}
		for range 1000 {
			_, _ = r.Read(value)
			t.Set(benchKey(uint64(i)), value)
			i++
		}
		p, err := t.Commit(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Wait(ctx); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func BenchmarkRead(b *testing.B) {
	const n = 100_000
	s := filled(b, n)
	ctx := context.Background()
	get := func(off uint64) func(b *testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			start := cpu()
			defer func() { b.ReportMetric((cpu()-start)/float64(b.N), "cpu-ns/op") }()
			for i := range b.N {
				snap, err := s.Snapshot(ctx)
				if err != nil {
					b.Fatal(err)
				}
				v, err := snap.Get(ctx, benchKey(uint64(i*7919%n)+off))
				if err != nil || (v != nil) != (off == 0) {
					b.Fatal(v, err)
				}
				snap.Close()
			}
		}
	}
	b.Run("GetHit", get(0))
	b.Run("GetMiss", get(n))
	for _, rows := range []int{1, 1000} {
		b.Run(fmt.Sprintf("Scan%d", rows), func(b *testing.B) {
			b.ReportAllocs()
			start := cpu()
			defer func() { b.ReportMetric((cpu()-start)/float64(b.N), "cpu-ns/op") }()
			for i := range b.N {
				snap, err := s.Snapshot(ctx)
				if err != nil {
					b.Fatal(err)
				}
				it := snap.Scan(ctx, engine.Range{Begin: benchKey(uint64(i * 7919 % n)), Limit: rows})
				for it.Next() {
				}
				if err := it.Close(); err != nil {
					b.Fatal(err)
				}
				snap.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
		})
	}
}
