package history

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// spoil is what happens to a file.
type spoil struct {
	name string
	do   func(fs vfs.FS, path string, content []byte) error
}

// rewrite replaces the bytes of a file where they are, as an open file sees them too.
func rewrite(fs vfs.FS, path string, at int64, b []byte) error {
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}

// replace puts a file with other content in the place of one.
func replace(fs vfs.FS, path string, content []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// spoils are those of a file of a size.
func spoils(size int) []spoil {
	all := []spoil{
		{"missing", func(fs vfs.FS, path string, _ []byte) error { return fs.Remove(path) }},
		{"emptied", func(fs vfs.FS, path string, _ []byte) error { return replace(fs, path, nil) }},
		{"cut", func(fs vfs.FS, path string, b []byte) error { return replace(fs, path, b[:len(b)/2]) }},
		{"zeroed", func(fs vfs.FS, path string, b []byte) error { return rewrite(fs, path, 0, make([]byte, len(b))) }},
	}
	flips := 4
	if testing.Short() {
		flips = 2
	}
	for i := range flips {
		at := (size - 1) * i / (flips - 1)
		all = append(all, spoil{fmt.Sprint("flipped at ", at), func(fs vfs.FS, path string, b []byte) error {
			at := min(at, len(b)-1) // sizes differ a little from run to run
			return rewrite(fs, path, int64(at), []byte{b[at] ^ 0x10})
		}})
	}
	return all
}

// files returns the names of the files of a cache, and what is in them.
func files(t *testing.T, fs vfs.FS) (names []string, content map[string][]byte) {
	t.Helper()
	all, err := fs.List("h")
	if err != nil {
		t.Fatal(err)
	}
	content = map[string][]byte{}
	for _, name := range all {
		if name == "LOCK" {
			continue
		}
		f, err := fs.Open(fs.PathJoin("h", name))
		if os.IsNotExist(err) {
			continue // removed by Pebble meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		names, content[name] = append(names, name), b
	}
	sort.Strings(names)
	return names, content
}

// fill begins a cache with three tables.
func fill(t *testing.T, fs vfs.FS, l *memLog) *Cache {
	t.Helper()
	c := start(t, l, 1, Options{FS: fs, Identity: []byte("a")})
	for range 3 {
		c.Append(l.add(120))
		written(t, c)
		if err := c.present().db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// present returns the cache's store, or nil.
func (c *Cache) present() *store {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.store
}

// use calls f while the store is there, unless there is none.
func (c *Cache) use(f func(db *pdb.DB)) {
	c.mu.RLock()
	s := c.store
	if s != nil {
		s.users.Add(1)
	}
	c.mu.RUnlock()
	if s != nil {
		defer s.users.Done()
		f(s.db)
	}
}

// same reads the log from a revision on through the cache, and compares.
func same(t *testing.T, c *Cache, l *memLog, from int64) error {
	t.Helper()
	var got []int64
	for from <= l.head() {
		entries, next, err := c.Over(l).ReadLog(t.Context(), from, 50, 1<<20)
		if err != nil {
			return err
		}
		for i := range entries {
			k := sort.Search(len(l.entries), func(k int) bool { return l.entries[k].Rev >= entries[i].Rev })
			if k == len(l.entries) || !reflect.DeepEqual(l.entries[k], entries[i]) {
				t.Fatalf("revision %d is not as in the log", entries[i].Rev)
			}
			got = append(got, entries[i].Rev)
		}
		from = next
	}
	var want []int64
	for i := range l.entries {
		if len(got) > 0 && l.entries[i].Rev >= got[0] {
			want = append(want, l.entries[i].Rev)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	return nil
}

// mended waits until everything from a revision on comes from the cache alone.
func mended(t *testing.T, c *Cache, l *memLog, from int64) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Microsecond) {
		l.setDown(true)
		err := same(t, c, l, from)
		l.setDown(false)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not served by the cache from %d on: %v, %+v", from, err, c.Stats())
		}
	}
}

// refilled waits until another store than old has everything. Whoever wants to know how often the cache was made anew
// waits for that first: mended takes the log away now and then, and a refill that reads it just then fails.
func refilled(t *testing.T, c *Cache, old *store) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Microsecond) {
		if s := c.present(); s != nil && s != old {
			written(t, c)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not made anew: %+v", c.Stats())
		}
	}
}

func (l *memLog) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

// TestDamagedFiles: whatever happens to a file of the cache, while it is open or closed, and to all of them, every read
// is a true part of the log, and in the end it is the cache again that has what it had (at a start: what has come
// since).
func TestDamagedFiles(t *testing.T) {
	names, content := files(t, func() vfs.FS {
		fs := vfs.NewMem()
		if err := fill(t, fs, newMemLog(7)).Close(); err != nil {
			t.Fatal(err)
		}
		return fs
	}())
	tables := 0
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			tables++
		}
		for _, s := range spoils(len(content[name])) {
			for _, open := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/open=%t", name, s.name, open), func(t *testing.T) {
					damage(t, open, func(fs vfs.FS) error {
						now, content := files(t, fs)
						for _, n := range now { // numbers may differ from run to run, kinds do not
							if n == name && len(content[n]) > 0 {
								if err := s.do(fs, fs.PathJoin("h", n), content[n]); !os.IsNotExist(err) {
									return err
								}
							}
						}
						return nil
					})
				})
			}
		}
	}
	if tables == 0 {
		t.Error("no table")
	}
	for name, all := range map[string]func(fs vfs.FS) error{
		"directory": func(fs vfs.FS) error { return fs.RemoveAll("h") },
		"content": func(fs vfs.FS) error {
			names, _ := files(t, fs)
			for _, name := range names {
				if err := fs.Remove(fs.PathJoin("h", name)); err != nil && !os.IsNotExist(err) {
					return err
				}
			}
			return nil
		},
	} {
		for _, open := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/open=%t", name, open), func(t *testing.T) { damage(t, open, all) })
		}
	}
}

func damage(t *testing.T, open bool, spoil func(fs vfs.FS) error) {
	t.Helper()
	l := newMemLog(7)
	fs := vfs.NewMem()
	c := fill(t, fs, l)
	from := int64(2)
	if !open {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		from = l.head() + 1
	}
	if err := spoil(fs); err != nil {
		t.Fatal(err)
	}
	if !open {
		c = start(t, l, l.head(), Options{FS: fs, Identity: []byte("a")})
	}
	check := func() {
		t.Helper()
		if err := same(t, c, l, 2); err != nil {
			t.Fatal(err)
		}
	}
	check()
	c.Append(l.add(50))
	c.use(func(db *pdb.DB) { // what Pebble does by itself some time: it may fail, and meet the damage
		_ = db.Flush()
		_ = db.Compact(t.Context(), []byte{0}, []byte{0xff}, false)
	})
	check()
	c.Append(l.add(50))
	mended(t, c, l, from)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	// What only a start reads is found by the next one.
	c = start(t, l, l.head(), Options{FS: fs, Identity: []byte("a")})
	begin := c.Stats().Floor + 1
	c.Append(l.add(50))
	mended(t, c, l, begin)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// fullFS is a disk on which nothing can be written while it is full.
type fullFS struct {
	vfs.FS
	full, refused atomic.Bool
}

func (f *fullFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.full.Load() {
		f.refused.Store(true)
		return nil, errors.New("no space left on device")
	}
	return f.FS.Create(name, c)
}

// TestFullDisk: a write that fails is the end of what is there, and of nothing else: when there is room again the cache
// is made anew from the log.
func TestFullDisk(t *testing.T) {
	l := newMemLog(8)
	fs := &fullFS{FS: vfs.NewMem()}
	c := fill(t, fs, l)
	fs.full.Store(true)
	c.Append(l.add(100))
	writtenOr(t, c, fs.refused.Load)           // Pebble may be writing a file already
	c.use(func(db *pdb.DB) { _ = db.Flush() }) // its file goes into memory
	if !fs.refused.Load() {
		t.Error("nothing was refused")
	}
	if err := same(t, c, l, 2); err != nil {
		t.Fatal(err)
	}
	fs.full.Store(false)
	c.Append(l.add(100))
	mended(t, c, l, 2)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestRefillAfterCompaction: a cache that is made anew has nothing that has been compacted meanwhile.
func TestRefillAfterCompaction(t *testing.T) {
	l := newMemLog(9)
	c := fill(t, vfs.NewMem(), l)
	l.mu.Lock()
	l.compact = l.entries[200].Rev
	l.mu.Unlock()
	old := c.present()
	c.fail(old, errors.New("a failure"))
	c.Append(l.add(10))
	refilled(t, c, old)
	mended(t, c, l, l.compact)
	if st := c.Stats(); st.Floor != l.compact-1 || st.Restarts != 1 {
		t.Errorf("%+v after a compaction up to %d", st, l.compact)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// readingLog reads the cache whenever it is asked what is compacted.
type readingLog struct {
	*memLog
	cache atomic.Pointer[Cache]
	from  int64
}

func (l *readingLog) CompactRevision() int64 {
	if c := l.cache.Load(); c != nil {
		c.read(l.from, 10, 1<<20)
	}
	return l.memLog.CompactRevision()
}

// TestReadWhileRefilled: a read that comes when there is a new store, and nothing in it yet, is none of a damaged one.
func TestReadWhileRefilled(t *testing.T) {
	l := &readingLog{memLog: newMemLog(11)}
	l.from = 2
	c := start(t, l, 1, Options{Identity: []byte("a"), FS: vfs.NewMem()})
	c.Append(l.add(100))
	written(t, c)
	l.cache.Store(c)
	old := c.present()
	c.fail(old, errors.New("a failure"))
	c.Append(l.add(10))
	refilled(t, c, old)
	mended(t, c, l.memLog, 2)
	if st := c.Stats(); st.Restarts != 1 {
		t.Errorf("%+v", st)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// stuckFS is a disk from which nothing can be removed any more.
type stuckFS struct {
	vfs.FS
	stuck   atomic.Bool
	refused chan struct{}
}

func (f *stuckFS) RemoveAll(name string) error {
	if f.stuck.Load() {
		select {
		case f.refused <- struct{}{}:
		default:
		}
		return errors.New("input/output error")
	}
	return f.FS.RemoveAll(name)
}

// TestCloseWithoutStore: a cache is closed while it cannot be made anew, with entries in its queue.
func TestCloseWithoutStore(t *testing.T) {
	for range 20 { // whether the writer sees the queue or the end first is chance
		l := newMemLog(12)
		fs := &stuckFS{FS: vfs.NewMem(), refused: make(chan struct{}, 1)}
		c := start(t, l, 1, Options{Identity: []byte("a"), FS: fs})
		c.Append(l.add(10))
		written(t, c)
		fs.stuck.Store(true)
		c.fail(c.present(), errors.New("a failure"))
		<-fs.refused
		c.Append(l.add(10))
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOthersDirectory: a directory that is open already is not removed.
func TestOthersDirectory(t *testing.T) {
	l := newMemLog(10)
	fs := vfs.NewMem()
	c := fill(t, fs, l)
	if _, err := Open("h", Options{FS: fs, Log: quiet()}); err == nil {
		t.Error("opened twice")
	}
	mended(t, c, l, 2)
	if c.Stats().Restarts != 0 {
		t.Errorf("%+v", c.Stats())
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
