package pebble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// smallDisk mounts a tmpfs of so many bytes.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("NOT TESTED: the behaviour on a full disk needs a tmpfs mount, which is not permitted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk puts rows until the store refuses, and returns how many it took.
func fillDisk(t *testing.T, s *Store) int {
	t.Helper()
	for i := range 100_000 {
		err := put(s, fmt.Sprintf("k%06d", i), incompressible(i, 64<<10))
		if errors.Is(err, engine.ErrNoSpace) {
			return i
		}
		if err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
	}
	t.Fatal("the disk does not fill")
	return 0
}

// TestDiskFull fills a disk by writing: growing transactions are refused, all else goes on, and room brings them back.
func TestDiskFull(t *testing.T) {
	t.Run("tables", func(t *testing.T) { diskFull(t, Options{}) })
	t.Run("values", func(t *testing.T) { diskFull(t, Options{ValueFiles: true, ValueBytes: valueBytesMin}) })
}

func diskFull(t *testing.T, o Options) {
	dir := smallDisk(t, 96<<20)
	// Compactions take space and give it back: between the first alarm of a round and its end there may be others.
	var alarms atomic.Int64
	var told atomic.Bool
	o.ReserveBytes, o.BallastBytes, o.OnNoSpace = 16<<20, 4<<20, func(full bool) {
		if full {
			alarms.Add(1)
		}
		told.Store(full)
	}
	s, err := Open(filepath.Join(dir, "data"), small(o))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := os.Stat(filepath.Join(dir, "data", ballastName)); err != nil {
		t.Fatal("no ballast:", err)
	}
	for round := range 2 {
		before := alarms.Load()
		n := fillDisk(t, s)
		until(t, "the alarm is raised", func() bool { return told.Load() || alarms.Load() > before })
		t.Logf("round %d: %d rows", round, n)
		for i := range n {
			if got := read(t, s, fmt.Sprintf("k%06d", i)); string(got) != string(incompressible(i, 64<<10)) {
				t.Fatalf("row %d is damaged", i)
			}
		}
		// What frees space is taken, marked or not. A compaction may have the last of the space for a moment.
		until(t, "a clear is taken", func() bool {
			return mutate(s, func(x engine.Txn) { x.Clear([]byte("k000000")) }) == nil
		})
		until(t, "a delete is taken", func() bool {
			return mutate(s, func(x engine.Txn) {
				x.(interface{ Shrinks() }).Shrinks()
				x.Set([]byte("log"), []byte("deleted all"))
				x.ClearRange([]byte("k"), []byte("l"))
			}) == nil
		})
		until(t, "writes are taken again", func() bool { return put(s, "again", []byte("x")) == nil })
		until(t, "the alarm ends", func() bool { return !told.Load() && !s.NoSpace() })
	}
}

// TestDiskFullOfGarbage: on a disk that is full of value files of which every other value is garbage, room is made by
// writing the others once more.
func TestDiskFullOfGarbage(t *testing.T) {
	dir := smallDisk(t, 48<<20)
	s, err := Open(filepath.Join(dir, "data"), small(Options{
		ReserveBytes: 8 << 20, BallastBytes: 2 << 20, ValueFiles: true, ValueBytes: valueBytesMin,
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	n := fillDisk(t, s)
	until(t, "deletes are taken", func() bool {
		return mutate(s, func(x engine.Txn) {
			x.(interface{ Shrinks() }).Shrinks()
			for i := 0; i < n; i += 2 {
				x.Clear(fmt.Appendf(nil, "k%06d", i))
			}
		}) == nil
	})
	for i := range n / 4 { // as much again as half of what has gone
		until(t, "writes are taken again", func() bool {
			return put(s, fmt.Sprintf("l%06d", i), incompressible(i, 64<<10)) == nil
		})
	}
	for i := 1; i < n; i += 2 {
		if got := read(t, s, fmt.Sprintf("k%06d", i)); string(got) != string(incompressible(i, 64<<10)) {
			t.Fatalf("row %d is damaged", i)
		}
	}
}

// hog takes the disk's free space but for some bytes, as another process may.
func hog(t *testing.T, dir string, leave uint64) string {
	t.Helper()
	name := filepath.Join(dir, "hog")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for { // the store works meanwhile
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		free := st.Bavail * uint64(st.Bsize)
		if free <= leave {
			return name
		}
		err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(free-leave))
		if err == nil {
			return name
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

// TestDiskTaken: another process takes all the space at once, below the store's reserve. What cannot be written waits,
// nothing that was acknowledged is lost, and the store goes on when the space is back.
func TestDiskTaken(t *testing.T) {
	dir := smallDisk(t, 64<<20)
	data := filepath.Join(dir, "data")
	logs := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	o := small(Options{ReserveBytes: -1, BallastBytes: 2 << 20, Logger: logs})
	s, err := Open(data, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for i := range 100 {
		if err := put(s, fmt.Sprintf("a%04d", i), incompressible(i, 4<<10)); err != nil {
			t.Fatal(err)
		}
	}
	name := hog(t, dir, 0)
	// Write from several goroutines until the log finds no space.
	acked := make(chan int, 100_000)
	done := make(chan struct{})
	for w := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := w; i < 1500; i += 4 {
				if err := mutate(s, func(x engine.Txn) {
					x.(interface{ Shrinks() }).Shrinks() // or it would be refused once the ballast is gone
					x.Set(fmt.Appendf(nil, "b%06d", i), incompressible(i, 4<<10))
				}); err != nil {
					return // refused, or timed out while it waited for space
				}
				acked <- i
			}
		}()
	}
	until(t, "writes are refused", func() bool { return errors.Is(put(s, "c", nil), engine.ErrNoSpace) })
	if err := put(s, "c", []byte("1")); !errors.Is(err, engine.ErrNoSpace) {
		t.Errorf("a put on a full disk: %v", err)
	}
	if got := read(t, s, "a0007"); string(got) != string(incompressible(7, 4<<10)) {
		t.Error("reads do not go on")
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing waits", func() bool { return s.space.blocked.Load() == 0 })
	until(t, "writes are taken again", func() bool { return put(s, "d", []byte("x")) == nil })
	for range 4 {
		<-done
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(data, o); err != nil {
		t.Fatal(err)
	}
	close(acked)
	n := 0
	for i := range acked {
		n++
		if got := read(t, s, fmt.Sprintf("b%06d", i)); string(got) != string(incompressible(i, 4<<10)) {
			t.Fatalf("acknowledged row %d is lost", i)
		}
	}
	t.Logf("%d rows acknowledged around the full disk", n)
}

// TestCloseOnFullDisk: a store that waits for space closes nevertheless, and loses nothing that it has acknowledged.
func TestCloseOnFullDisk(t *testing.T) {
	dir := smallDisk(t, 32<<20)
	data := filepath.Join(dir, "data")
	s, err := Open(data, small(Options{ReserveBytes: -1, BallastBytes: -1, CloseWithin: closeTimeout}))
	if err != nil {
		t.Fatal(err)
	}
	name := hog(t, dir, 64<<10)
	acked := 0
	var hung error
	for i := range 10_000 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		x, err := s.Begin(ctx)
		if err == nil {
			x.Set(fmt.Appendf(nil, "k%d", i), incompressible(i, 2<<10))
			var p engine.Pending
			if p, err = x.Commit(ctx); err == nil {
				_, err = p.Wait(ctx)
			}
		}
		cancel()
		if hung = err; err != nil {
			break
		}
		acked = i + 1
	}
	if hung == nil {
		t.Fatal("the disk does not fill")
	}
	start := time.Now()
	_ = s.Close() // fails: a commit has not been written
	if d := time.Since(start); d > diskLimit/2 {
		t.Errorf("Close took %v", d)
	}
	copied := filepath.Join(t.TempDir(), "copy") // what a start finds; the store itself waits for space still
	if err := os.CopyFS(copied, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	<-s.ended // or its files would be gone under it
	data = copied
	if s, err = Open(data, small(Options{})); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for i := range acked {
		if got := read(t, s, fmt.Sprintf("k%d", i)); string(got) != string(incompressible(i, 2<<10)) {
			t.Fatalf("acknowledged row %d of %d is lost", i, acked)
		}
	}
}

func TestOpenReadOnly(t *testing.T) {
	dir := smallDisk(t, 8<<20)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("NOT TESTED: a read-only data directory: %v", err)
	}
	wantOpenError(t, dir, nil, "read-only")
	wantOpenError(t, filepath.Join(dir, "below"), nil, "read-only")
}

// TestValuesBegunOnFullDisk: a store that is to have value files, and whose disk has no free byte, opens and serves
// reads; when there is room it takes transactions. It has value files from the start after that on.
func TestValuesBegunOnFullDisk(t *testing.T) {
	dir := smallDisk(t, 32<<20)
	data := filepath.Join(dir, "data")
	want := incompressible(1, farBytes)
	s, err := Open(data, small(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(put(s, "a", want), s.Close(), os.Remove(filepath.Join(data, ballastName))); err != nil {
		t.Fatal(err)
	}
	name := hog(t, dir, 0)
	for i, o := range []Options{far(Options{}), small(Options{ValueBytes: farBytes})} {
		s, err := Open(data, o)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, s, "a"); string(got) != string(want) {
			t.Errorf("start %d: a value of %d bytes", i, len(got))
		}
		if s.readOnly.Load() != (i == 0) {
			t.Errorf("start %d: read-only: %v", i, s.readOnly.Load())
		}
		if i == 0 {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "a put is taken", func() bool { return put(s, "a", want) == nil })
		if names, _ := filepath.Glob(filepath.Join(data, "*"+valuesExt)); len(names) != i {
			t.Errorf("start %d: value files %q", i, names)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOpenOnFullDisk: a store of a killed process whose disk has no free byte opens, serves reads, refuses every
// transaction at once, closes, and takes transactions when there is room, beside readers that never pause.
func TestOpenOnFullDisk(t *testing.T) {
	t.Run("tables", func(t *testing.T) { openOnFullDisk(t, small(Options{})) })
	t.Run("values", func(t *testing.T) { openOnFullDisk(t, far(Options{})) })
}

func openOnFullDisk(t *testing.T, o Options) {
	dir := smallDisk(t, 64<<20)
	data := filepath.Join(dir, "data")
	s, err := Open(data, o)
	if err != nil {
		t.Fatal(err)
	}
	const rows = 15 // one memtable: nothing moves while the files are copied
	for i := range rows {
		if err := put(s, fmt.Sprintf("k%06d", i), incompressible(i, 10<<10)); err != nil {
			t.Fatal(err)
		}
	}
	killed := filepath.Join(dir, "killed")
	if err := os.CopyFS(killed, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), os.RemoveAll(data), os.Remove(filepath.Join(killed, ballastName))); err != nil {
		t.Fatal(err)
	}
	name := hog(t, dir, 0)
	for range 2 { // the second after a clean end
		if s, err = Open(killed, o); err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			if got := read(t, s, fmt.Sprintf("k%06d", i)); string(got) != string(incompressible(i, 10<<10)) {
				t.Fatalf("row %d is not there", i)
			}
		}
		if err := put(s, "a", nil); !errors.Is(err, engine.ErrNoSpace) {
			t.Fatalf("a put: %v", err)
		}
		if err := s.Defragment(t.Context()); !errors.Is(err, engine.ErrNoSpace) {
			t.Fatalf("Defragment: %v", err)
		}
		if st := s.Stats(); !st.NoSpace || st.DiskBytes == 0 {
			t.Errorf("%+v", st)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = Open(killed, o); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				read(t, s, "k000007")
			}
		}
	}()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	until(t, "a put is taken", func() bool { return put(s, "a", []byte("x")) == nil })
	close(stop)
	<-done
	if got := read(t, s, "k000014"); string(got) != string(incompressible(14, 10<<10)) ||
		string(read(t, s, "a")) != "x" {
		t.Error("rows are lost")
	}
}
