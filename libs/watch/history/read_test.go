package history

import (
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestReadDoesNotKeepRows: who keeps one entry of a read, such as a watch whose client does not read, does not keep the
// entries beside it in memory.
func TestReadDoesNotKeepRows(t *testing.T) {
	l := newMemLog(5)
	c := start(t, l, 1, Options{FS: vfs.NewMem()})
	defer c.Close()
	ps := l.add(3000)
	c.Append(ps)
	written(t, c)
	size := uint64(c.Stats().Bytes)
	cached := c.Over(l)
	var kept []revlog.Entry
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const rounds = 10
	read := func() {
		for from := int64(2); from <= l.head(); {
			entries, next, err := cached.ReadLog(t.Context(), from, 500, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, entries[0])
			from = next
		}
	}
	read() // fills Pebble's own caches
	before := heap()
	for range rounds {
		read()
	}
	if grown := int64(heap()) - int64(before); grown > rounds*int64(size)/4 {
		t.Errorf("%d entries of rows of %d bytes in all keep %d bytes", len(kept), size*rounds, grown)
	}
	runtime.KeepAlive(kept)
}
