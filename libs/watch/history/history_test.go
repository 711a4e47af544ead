package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/revision"
	"github.com/headwaterdb/headwater/libs/revlog"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// memLog is a log in memory whose revisions have holes.
type memLog struct {
	mu      sync.Mutex
	rnd     *rand.Rand
	entries []revlog.Entry
	compact int64
	reads   int
	down    bool
	gap     int64 // before the next entry
}

func (l *memLog) head() int64 {
	if len(l.entries) == 0 {
		return 1
	}
	return l.entries[len(l.entries)-1].Rev
}

func (l *memLog) Head(context.Context) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head(), nil
}

func (l *memLog) CompactRevision() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.compact
}

var errDown = errors.New("down")

// ReadValues has nothing to read: all values are in their entries.
func (l *memLog) ReadValues(context.Context, []*revlog.KV) ([][]byte, error) {
	return nil, errors.New("no values")
}

func (l *memLog) ReadLog(_ context.Context, from int64, maxEntries, _ int) ([]revlog.Entry, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if from < l.compact || l.down {
		return nil, 0, errDown
	}
	i := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].Rev >= from })
	got := l.entries[i:min(len(l.entries), i+maxEntries)]
	if i+len(got) == len(l.entries) {
		return slices.Clone(got), max(from, l.head()+1+l.gap), nil
	}
	return slices.Clone(got), got[len(got)-1].Rev + 1, nil
}

// codec encodes the entries of a memLog.
var codec = revlog.Codec{RowRevs: revlog.RowRevs{Space: revision.Space{Base: 1 << 40, Shift: 3}}}

// encoded are entries as their log has them.
func encoded(entries []revlog.Entry) (ps []revlog.Payload) {
	for _, e := range entries {
		p := revlog.Payload{Rev: e.Rev}
		for i := range e.Events {
			p.Bytes, _ = codec.AppendEvent(p.Bytes, &e.Events[i], e.Rev)
		}
		ps = append(ps, p)
	}
	return ps
}

// add commits n entries and returns them.
func (l *memLog) add(n int) []revlog.Payload {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range n {
		e := revlog.Entry{Rev: l.head() + 1 + l.gap + int64(l.rnd.IntN(3))}
		l.gap = 0
		for k := range 1 + l.rnd.IntN(3) {
			ev := revlog.Event{KV: revlog.KV{Key: fmt.Appendf(nil, "k%d", k), Mod: e.Rev}}
			if l.rnd.IntN(3) > 0 {
				ev.HasPrev = true
				ev.Prev = revlog.KV{
					Key: ev.KV.Key, Value: []byte("old"), Create: 2, Mod: e.Rev - 1, Version: 3, Lease: 7,
				}
			}
			if ev.Delete = ev.HasPrev && l.rnd.IntN(2) == 0; !ev.Delete {
				ev.KV.Value, ev.KV.Create, ev.KV.Version = fmt.Appendf(nil, "v%d", l.rnd.Int()), e.Rev, 1
			}
			e.Events = append(e.Events, ev)
		}
		l.entries = append(l.entries, e)
	}
	return encoded(l.entries[len(l.entries)-n:])
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newMemLog(seed uint64) *memLog {
	return &memLog{rnd: rand.New(rand.NewPCG(seed, 3)), compact: -1}
}

func start(t *testing.T, l Log, position int64, o Options) *Cache {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet()
	}
	if o.Codec == (revlog.Codec{}) {
		o.Codec = codec
	}
	c, err := Open("h", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context(), l, position); err != nil {
		t.Fatal(err)
	}
	return c
}

// written waits until the cache has written everything that it was given.
func written(t *testing.T, c *Cache) {
	t.Helper()
	writtenOr(t, c, func() bool { return false })
}

// writtenOr waits until the cache has written everything that it was given, or cannot for a reason that is known.
func writtenOr(t *testing.T, c *Cache, hindered func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !hindered(); time.Sleep(100 * time.Microsecond) {
		c.queueMu.Lock()
		n, tail := len(c.queue), c.tail
		c.queueMu.Unlock()
		if st := c.Stats(); n == 0 && (st.Last == tail || c.opts.QueueBytes < DefaultQueueBytes) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not written: %d, %+v", n, c.Stats())
		}
	}
}

// TestCacheAgainstLog: whatever is trimmed, lost in a crash, missed or dropped, every read is a true part of the log.
func TestCacheAgainstLog(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i := range uint64(8) {
		runAgainstLog(t, seed+i)
	}
}

func runAgainstLog(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 4))
	l := newMemLog(seed)
	l.add(rnd.IntN(50))
	fs := vfs.NewCrashableMem()
	now := time.Unix(1_000_000, 0)
	var clock sync.Mutex
	maxBytes := 2000 + int64(rnd.IntN(100_000))<<rnd.IntN(8) // rows have one entry, or several
	o := Options{MaxBytes: maxBytes, MaxAge: time.Minute, FS: fs, Now: func() time.Time {
		clock.Lock()
		defer clock.Unlock()
		return now
	}}
	if rnd.IntN(2) == 0 {
		o.QueueBytes = 3000
	}
	c := start(t, l, l.head(), o)
	served := uint64(0)
	for range 600 {
		switch n := rnd.IntN(100); {
		case n < 35:
			c.Append(l.add(rnd.IntN(20)))
		case n < 38:
			written(t, c)
		case n < 40:
			clock.Lock()
			now = now.Add(time.Duration(rnd.IntN(40)) * time.Second)
			clock.Unlock()
		case n < 42 && len(l.entries) > 0:
			l.mu.Lock()
			l.compact = max(l.compact, l.entries[max(0, len(l.entries)-1-rnd.IntN(200))].Rev)
			l.mu.Unlock()
		case n < 45:
			served += c.reads.Load()
			if rnd.IntN(2) == 0 {
				if err := c.store.db.Flush(); err != nil {
					t.Fatal(err)
				}
				old := c
				o.FS = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rnd.IntN(101), RNG: rnd})
				fs = o.FS.(*vfs.MemFS)
				if err := old.Close(); err != nil {
					t.Fatal(err)
				}
			} else if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			l.add(rnd.IntN(30)) // missed
			position := l.head()
			var again []revlog.Payload // a hub begins before the head, maybe before what is in the directory ends
			if n := len(l.entries); rnd.IntN(2) == 0 && n > 0 {
				i := max(0, n-1-rnd.IntN(60))
				position, again = l.entries[i].Rev, encoded(l.entries[i+1:])
			}
			c = start(t, l, position, o)
			c.Append(again)
		default:
			from := l.head() - int64(rnd.IntN(400)) + 5
			if from < max(1, l.compact) {
				continue
			}
			limit := 1 + rnd.IntN(50)
			got, next, err := c.Over(l).ReadLog(t.Context(), from, limit, 1+rnd.IntN(5000))
			if err != nil || len(got) > limit || next < from {
				t.Fatalf("seed %d: %d entries, next %d, %v", seed, len(got), next, err)
			}
			i := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].Rev >= from })
			j := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].Rev >= next })
			if len(got) != j-i {
				t.Fatalf("seed %d: %d entries in [%d, %d), want %d", seed, len(got), from, next, j-i)
			}
			if len(got) > 0 && !reflect.DeepEqual(l.entries[i:j], got) {
				t.Fatalf("seed %d: %s", seed, cmp.Diff(l.entries[i:j], got))
			}
		}
		if c.Stats().Bytes > o.MaxBytes {
			t.Fatalf("seed %d: %d bytes, limit %d", seed, c.Stats().Bytes, o.MaxBytes)
		}
	}
	if served += c.reads.Load(); served == 0 || c.store.cause() != nil {
		t.Errorf("seed %d: served %d reads, failed: %v", seed, served, c.store.cause())
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCacheSparesTheLog: what the cache holds is not asked from the log, over restarts as well, and what was written
// meanwhile is filled in.
func TestCacheSparesTheLog(t *testing.T) {
	l := newMemLog(1)
	fs := vfs.NewMem()
	c := start(t, l, 1, Options{FS: fs, Identity: []byte("a")})
	c.Append(l.add(500))
	written(t, c)
	check := func() {
		t.Helper()
		l.mu.Lock()
		l.down = true
		l.mu.Unlock()
		n := 0
		for from := int64(2); from <= l.head(); {
			got, next, err := c.Over(l).ReadLog(t.Context(), from, 100, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			n += len(got)
			from = next
		}
		if reads, entries := c.Over(l).Served(); n != len(l.entries) || entries != uint64(n) || reads == 0 {
			t.Errorf("%d entries, served %d in %d reads", n, entries, reads)
		}
		l.mu.Lock()
		l.down = false
		l.mu.Unlock()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	check()
	c = start(t, l, 300, Options{FS: fs, Identity: []byte("a")}) // a hub begins before the head
	c.Append(encoded(l.entries[299:]))
	check()
	l.add(300)
	l.gap = 5
	c = start(t, l, l.head()+5, Options{FS: fs, Identity: []byte("a")}) // a position between entries
	c.Append(l.add(10))
	written(t, c)
	check()
}

// TestCacheDistrustsItsDirectory: a directory of another keyspace, of another history, or ahead of the log is not used.
func TestCacheDistrustsItsDirectory(t *testing.T) {
	for name, spoil := range map[string]func(l *memLog, o *Options){
		"identity": func(_ *memLog, o *Options) { o.Identity = []byte("b") },
		"codec":    func(_ *memLog, o *Options) { o.Codec = codec; o.Codec.Space.Base++ },
		"first":    func(l *memLog, _ *Options) { l.entries[0].Events[0].KV.Key = []byte("x") },
		"last":     func(l *memLog, _ *Options) { l.entries[len(l.entries)-1].Events[0].KV.Key = []byte("x") },
		"shorter":  func(l *memLog, _ *Options) { l.entries = l.entries[:100] },
		"compacted": func(l *memLog, _ *Options) {
			l.add(10)
			l.compact = l.head()
		},
		"down": func(l *memLog, _ *Options) { l.down = true },
	} {
		t.Run(name, func(t *testing.T) {
			l := newMemLog(2)
			o := Options{FS: vfs.NewMem(), Identity: []byte("a")}
			c := start(t, l, 1, o)
			c.Append(l.add(200))
			written(t, c)
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			spoil(l, &o)
			c = start(t, l, l.head(), o)
			if st := c.Stats(); st.Floor != l.head() || st.Last != l.head() || st.Bytes != 0 {
				t.Errorf("used: %+v", st)
			}
			c.Append(l.add(1)) // and it goes on from there
			written(t, c)
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestCacheDamage: a row that is damaged or missing is found by the read, which then comes from the log; so does the
// cache, made anew.
func TestCacheDamage(t *testing.T) {
	for name, damage := range map[string]func(c *Cache, rev int64) error{
		"missing": func(c *Cache, rev int64) error { return c.store.db.Delete(entryKey(rev), pdb.NoSync) },
		"short":   func(c *Cache, rev int64) error { return c.store.db.Set(entryKey(rev), []byte("x"), pdb.NoSync) },
		"rest": func(c *Cache, rev int64) error {
			return change(c, rev, func(v []byte) []byte { return append(v[:rowHeader], 0xff) })
		},
		"longer": func(c *Cache, rev int64) error {
			return change(c, rev, func(v []byte) []byte { return append(v, 1, 0) })
		},
		"cut": func(c *Cache, rev int64) error {
			return change(c, rev, func(v []byte) []byte {
				r, err := parseRow(entryKey(rev), v)
				if err != nil {
					return nil
				}
				n := 0 // entries but the last
				if err := r.visit(func(p revlog.Payload) bool {
					if p.Rev < rev {
						n = cap(v) - cap(p.Bytes[len(p.Bytes):])
					}
					return true
				}); err != nil {
					return nil
				}
				return v[:n]
			})
		},
		"payload": func(c *Cache, rev int64) error {
			return change(c, rev, func(v []byte) []byte {
				v, _ = appendRow(v[:0], []revlog.Payload{{Rev: rev, Bytes: []byte{0xff}}}, rev-1, time.Unix(9, 0), 1)
				return v
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newMemLog(3)
			c := start(t, l, 1, Options{FS: vfs.NewMem()})
			for range 4 { // a row each
				c.Append(l.add(25))
				written(t, c)
			}
			if err := damage(c, l.entries[49].Rev); err != nil {
				t.Fatal(err)
			}
			got, _, err := c.Over(l).ReadLog(t.Context(), 2, 100, 1<<20)
			if d := cmp.Diff(l.entries, got); d != "" || err != nil {
				t.Errorf("%v, %s", err, d)
			}
			mended(t, c, l, 2)
			if st := c.Stats(); st.Restarts != 1 {
				t.Errorf("%+v", st)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// change changes the value of a row.
func change(c *Cache, rev int64, f func([]byte) []byte) error {
	v, closer, err := c.store.db.Get(entryKey(rev))
	if err != nil {
		return err
	}
	v = f(bytes.Clone(v))
	return errors.Join(closer.Close(), c.store.db.Set(entryKey(rev), v, pdb.NoSync))
}

// FuzzRow: no row makes the reader panic, and one that was written is read back.
func FuzzRow(f *testing.F) {
	entries := newMemLog(4).add(3)
	value, left := appendRow(nil, entries, 1, time.Unix(9, 0), rowBytes)
	if len(left) > 0 {
		f.Fatal("three entries do not fit")
	}
	f.Add(entryKey(entries[2].Rev), value)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r, err := parseRow(key, value)
		if err != nil {
			return
		}
		var entries []revlog.Payload
		if r.visit(func(p revlog.Payload) bool { entries = append(entries, p); return true }) != nil {
			return
		}
		value, left := appendRow(nil, entries, r.prev, r.at, len(value))
		if len(left) > 0 {
			t.Fatalf("%d entries left", len(left))
		}
		again, err := parseRow(entryKey(entries[len(entries)-1].Rev), value)
		if err != nil || again.last != r.last || again.prev != r.prev || !again.at.Equal(r.at) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
		i := 0
		err = again.visit(func(p revlog.Payload) bool {
			if p.Rev != entries[i].Rev || !bytes.Equal(p.Bytes, entries[i].Bytes) {
				t.Errorf("%+v became %+v", entries[i], p)
			}
			i++
			return true
		})
		if err != nil || i != len(entries) {
			t.Errorf("%d of %d entries, %v", i, len(entries), err)
		}
	})
}
