package pebble

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// lengthsIn adds up the lengths of the store's files as anybody sees them.
func lengthsIn(t *testing.T, dir string) (sum uint64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if i, err := e.Info(); err == nil && e.Name() != ballastName {
			sum += uint64(i.Size())
		}
	}
	return sum
}

// overwrite puts n rows of so many bytes, several times.
func overwrite(t *testing.T, s *Store, rounds, n, size int) {
	t.Helper()
	for round := range rounds {
		for i := range n {
			if err := put(s, fmt.Sprintf("k%06d", i), incompressible(round*n+i, size)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// clearAll clears the rows that overwrite has put, one by one.
func clearAll(t *testing.T, s *Store, from, n int) {
	t.Helper()
	if err := mutate(s, func(x engine.Txn) {
		for i := from; i < n; i++ {
			x.Clear(fmt.Appendf(nil, "k%06d", i))
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// TestDefragment: what has been overwritten or cleared is off the disk when Defragment returns, logs included, and
// Stats says what the files are.
func TestDefragment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := Open(dir, small(Options{BallastBytes: 1 << 20}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const n, size = 200, 64 << 10
	overwrite(t, s, 4, n, size)
	for i := range 3 * getsBeforeIter { // idle iterators, which keep files
		read(t, s, fmt.Sprintf("k%06d", i))
	}
	const kept = 50
	for _, live := range []int{n, kept, 0} {
		clearAll(t, s, live, n)
		if err := s.Defragment(t.Context()); err != nil {
			t.Fatal(err)
		}
		files := lengthsIn(t, dir)
		if most := uint64(live*size)*11/10 + 256<<10; files > most {
			t.Errorf("%d bytes of files for %d rows of %d bytes", files, live, size)
		}
		until(t, "Stats as the files are", func() bool { return s.Stats().DiskBytes == lengthsIn(t, dir) })
		if live > 0 && string(read(t, s, "k000007")) != string(incompressible(3*n+7, size)) {
			t.Error("a row is damaged")
		}
	}
}

// TestDefragmentBesideOthers: reads and writes go on, further calls wait for the first, a caller that goes away is
// let go at once, and so is everybody when the store is closed.
func TestDefragmentBesideOthers(t *testing.T) {
	s, err := Open("data", small(Options{FS: vfs.NewMem()}))
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, s, 2, 300, 16<<10)
	s.passes <- struct{}{} // somebody compacts, for ever
	gone, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- s.Defragment(gone) }()
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has gone: %v", err)
	}
	waiting := make(chan error, 2)
	for range 2 {
		go func() { waiting <- s.Defragment(context.Background()) }()
	}
	overwrite(t, s, 1, 300, 16<<10)
	select {
	case err := <-waiting:
		t.Fatalf("Defragment did not wait: %v", err)
	default:
	}
	<-s.passes
	var wg sync.WaitGroup
	wg.Go(func() { overwrite(t, s, 2, 300, 16<<10) })
	for range 2 {
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	s.passes <- struct{}{}
	go func() { waiting <- s.Defragment(context.Background()) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, engine.ErrClosed) {
		t.Errorf("on a store that is closed: %v", err)
	}
	if err := s.Defragment(t.Context()); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("on a closed store: %v", err)
	}
}

// TestShrinksByItself: without a write or a call the files of an idle store come down to what is live.
func TestShrinksByItself(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for the store's own time, of which the race detector takes most")
	}
	for name, live := range map[string]int{"all overwritten": 200, "most cleared": 40, "all cleared": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			s, err := Open(dir, Options{
				CacheBytes: 1 << 20, ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			const n, size = 200, 64 << 10
			overwrite(t, s, 3, n, size)
			clearAll(t, s, live, n)
			most := uint64(live*size)*3/2 + 512<<10
			// A minute is what is promised; a busy machine takes longer.
			for end := time.Now().Add(3 * time.Minute); lengthsIn(t, dir) > most; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d bytes of files for %d live rows of %d bytes", lengthsIn(t, dir), live, size)
				}
			}
		})
	}
}

// TestFewClears: rows whose clears are a few bytes of log are off an idle store's disk too, within a minute. Here the
// minute is the housekeeper's, which is told what time it is.
func TestFewClears(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := Open(dir, Options{CacheBytes: 1 << 20, ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const n, size = 200, 64 << 10
	overwrite(t, s, 1, n, size)
	if err := s.Defragment(t.Context()); err != nil { // nothing is left in memtables, nor above the last level
		t.Fatal(err)
	}
	clearAll(t, s, 0, n)
	now := time.Now()
	h := &housekeeper{s: s, shape: s.shape.Load(), changed: now, flushed: now, passed: ^uint64(0), roomAt: ^uint64(0)}
	h.tick(now)
	for end := time.Now().Add(2 * time.Minute); lengthsIn(t, dir) > size; h.tick(now.Add(50 * time.Second)) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes of files for no rows", lengthsIn(t, dir))
		}
	}
}

// TestReplacedUnderReader: a reader of an old state keeps what was replaced since. An idle store is not compacted while
// it is there, and when it has gone the space is given back without a write or a call. The time is the housekeeper's.
func TestReplacedUnderReader(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := Open(dir, Options{CacheBytes: 1 << 20, ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const n, size = 100, 64 << 10
	overwrite(t, s, 1, n, size)
	reader, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, s, 1, n, size)
	if err := s.flushWait(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	h := &housekeeper{s: s, shape: s.shape.Load(), changed: now, flushed: now, passed: ^uint64(0), roomAt: ^uint64(0)}
	h.tick(now)
	h.tick(now.Add(20 * time.Second))
	reader.Close()
	for end := time.Now().Add(2 * time.Minute); lengthsIn(t, dir) > n*size*3/2; h.tick(now.Add(50 * time.Second)) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes of files for %d live rows of %d bytes", lengthsIn(t, dir), n, size)
		}
	}
}

// TestSizes: on every disk the parts of the reserve hold what they are for (space.go).
func TestSizes(t *testing.T) {
	for shift := 26; shift < 50; shift++ {
		o := Options{}
		o.EnsureDefaults()
		z := sizesFor(&o, 1<<shift)
		memTables := memTablesMax * z.memTable
		switch {
		case z.reserve > 1<<shift/reservePart || z.ballast > 1<<shift/ballastPart:
			t.Errorf("2^%d: %+v", shift, z)
		case memTables > z.reserve/2, memTables+z.logChunk > z.ballast+z.reserve/vitalPart:
			t.Errorf("2^%d: memtables of %d do not fit: %+v", shift, memTables, z)
		case z.piece+2*z.memTable > z.reserve/compactPart+z.reserve/emergencyPart+z.ballast:
			t.Errorf("2^%d: a piece does not fit: %+v", shift, z)
		case z.logChunk > z.memTable, z.table > z.largestTable && z.table > tableBytesMin:
			t.Errorf("2^%d: %+v", shift, z)
		}
	}
	o := Options{QuotaBytes: 64 << 20}
	o.EnsureDefaults()
	if z := sizesFor(&o, 1<<40); z.memTable != 2<<20 {
		t.Errorf("a memtable of %d bytes for a quota of 64 MiB", z.memTable)
	}
	for quota, want := range map[int64]uint64{
		0: valueFileMax, 1: valueFileMin, 128 << 20: 2 << 20, 4 << 30: valueFileMax, math.MaxInt64: valueFileMax,
	} {
		o.QuotaBytes = quota
		if z := sizesFor(&o, 1<<40); z.valueFile != want {
			t.Errorf("a value file of %d bytes, not %d, for a quota of %d", z.valueFile, want, quota)
		}
	}
}

// fullerFS tells as much free space as it is told to.
type fullerFS struct {
	vfs.FS
	free atomic.Uint64
}

func (f *fullerFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.free.Load(), TotalBytes: 1 << 30}, nil
}

// TestPassLooksAtDisk: a disk that somebody else fills is noticed while the store is compacted.
func TestPassLooksAtDisk(t *testing.T) {
	const reserve = 8 << 20
	fs := &fullerFS{FS: vfs.NewMem()}
	fs.free.Store(1 << 29)
	s, err := Open("data", small(Options{FS: fs, ReserveBytes: reserve, BallastBytes: -1}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	overwrite(t, s, 2, 10, 20<<10)
	fs.free.Store(reserve * 3 / 4)
	if err := s.compactAll(t.Context(), pass{gentle: true}); err != nil {
		t.Fatal(err)
	}
	if !s.NoSpace() {
		t.Error("nothing has looked at the disk")
	}
}
