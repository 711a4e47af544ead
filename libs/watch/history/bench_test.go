package history

import (
	"fmt"
	"testing"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// benchEntries are puts of 256 B over 256 B.
func benchEntries(from int64, n int) []revlog.Payload {
	var entries []revlog.Entry
	for rev := from; rev < from+int64(n); rev++ {
		kv := revlog.KV{
			Key: fmt.Appendf(nil, "/registry/pods/%d", rev%1000), Value: make([]byte, 256), Create: 2, Mod: rev,
			Version: 9,
		}
		prev := kv
		prev.Mod--
		entries = append(entries, revlog.Entry{Rev: rev, Events: []revlog.Event{{KV: kv, Prev: prev, HasPrev: true}}})
	}
	return encoded(entries)
}

// BenchmarkCache: one op is one entry, written in groups of 100, or read in passes of 1,000.
func BenchmarkCache(b *testing.B) {
	const rows, group, pass = 100_000, 100, 1000
	open := func(b *testing.B) *Cache {
		c, err := Open(b.TempDir(), Options{Codec: codec, Log: quiet()})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		if err := c.Start(b.Context(), newMemLog(1), 1); err != nil {
			b.Fatal(err)
		}
		return c
	}
	b.Run("write", func(b *testing.B) {
		c := open(b)
		next := int64(2)
		for n := 0; n < b.N; n += group {
			if err := c.put(benchEntries(next, group), next-1); err != nil {
				b.Fatal(err)
			}
			next += group
		}
	})
	b.Run("read", func(b *testing.B) {
		c := open(b)
		for next := int64(2); next < rows; next += group {
			if err := c.put(benchEntries(next, group), next-1); err != nil {
				b.Fatal(err)
			}
		}
		from := int64(2)
		b.ResetTimer()
		for n := 0; n < b.N; n += pass {
			_, next, ok := c.read(from, pass, 4<<20)
			if !ok {
				b.Fatal("not served")
			}
			if from = next; from > rows-pass {
				from = 2
			}
		}
	})
}
