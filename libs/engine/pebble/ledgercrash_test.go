package pebble

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// crashes takes copies of a file system as a crash would leave it, before operations of Pebble's and of the ledger's.
type crashes struct {
	fs  *vfs.MemFS
	h   *history
	rng *rand.Rand
	// every: one of so many operations is followed up; those on the ledger and on markers all are, if ledger is set.
	every  int
	ledger bool
	o      Options

	mu    sync.Mutex
	taken []crashed
}

// crashed is a copy, what had been acknowledged before, and the operation that was under way.
type crashed struct {
	fs      *vfs.MemFS
	acked   int64
	op      string
	percent int
	o       Options
}

// percents of what is not synced that survive: a power loss at its worst, a process that is killed, and between.
func (c *crashes) percent() int {
	return []int{0, 100, c.rng.IntN(101)}[c.rng.IntN(3)]
}

// MaybeError implements errorfs.Injector.
func (c *crashes) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	vital := c.ledger && (strings.Contains(op.Path, ledgerName) || strings.Contains(op.Path, "marker."))
	if c.ledger && strings.HasSuffix(op.Path, valuesExt) {
		vital = c.rng.IntN(3) == 0 // there are few
	}
	if !vital && c.rng.IntN(c.every) > 0 {
		return nil
	}
	acked := c.h.acked.Load()
	p := c.percent()
	clone := c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: p, RNG: c.rng})
	c.taken = append(c.taken, crashed{clone, acked, fmt.Sprintf("%v %s", op.Kind, op.Path), p, c.o})
	return nil
}

// String implements errorfs.Injector.
func (c *crashes) String() string { return "crashes" }

// TestCrashAnywhere: wherever a process is killed or the power fails, the next start succeeds and shows all that was
// acknowledged. It crashes before operations on files of runs that rotate and recycle logs, write tables, are closed
// and opened, and of the starts that follow the crashes.
func TestCrashAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("hundreds of starts, one after the other")
	}
	t.Run("logs", func(t *testing.T) { crashAnywhere(t, Options{}) })
	t.Run("values", func(t *testing.T) {
		crashAnywhere(t, Options{ValueFiles: true, ValueBytes: 16 << 10, ValueFileBytes: 1 << 20})
	})
}

func crashAnywhere(t *testing.T, o Options) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewCrashableMem()
	h := &history{seed: int(seed >> 40), rows: 8, valueBytes: 100 << 10}
	c := &crashes{fs: fs, h: h, rng: rng, every: 25, ledger: true, o: o}
	o.FS, o.CloseWithin = errorfs.Wrap(fs, c), time.Minute
	for range 4 {
		s, err := Open("data", small(o))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := h.commit(s, 5+rng.IntN(10)); err != nil {
				t.Fatal(err)
			}
			if n, err := h.shown(s); err != nil || n != h.acked.Load() {
				t.Fatal(n, err)
			}
			if err := s.values.collect(t.Context(), asked); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	again := 0
	for i, k := range c.taken {
		again += startAfter(t, k, h, rng, i%8 == 0)
	}
	t.Logf("%d crashes, %d more during the starts after them, %d commits", len(c.taken), again, h.acked.Load())
	if len(c.taken) < 80 || again < 20 {
		t.Error("too few crashes for a test")
	}
}

// startAfter starts a store on what a crash has left, and with deeper also on what crashes during that start leave;
// it returns the number of these.
func startAfter(t *testing.T, k crashed, h *history, rng *rand.Rand, deeper bool) int {
	t.Helper()
	shown := &history{seed: h.seed, rows: h.rows, valueBytes: h.valueBytes}
	shown.acked.Store(k.acked)
	var fs vfs.FS = k.fs
	c := &crashes{fs: k.fs, h: shown, rng: rng, every: 6, o: k.o}
	if deeper {
		fs = errorfs.Wrap(k.fs, c)
	}
	o := k.o
	o.FS, o.CloseWithin = fs, time.Minute
	s, err := Open("data", small(o))
	if err != nil {
		t.Errorf("crash before %s, %d %% of what was not synced, %d acknowledged: %v", k.op, k.percent, k.acked, err)
		return 0
	}
	n, err := h.shown(s)
	if err != nil || n < k.acked {
		t.Errorf("crash before %s, %d %% of what was not synced, %d acknowledged: %d shown, %v", k.op, k.percent,
			k.acked, n, err)
	}
	shown.acked.Store(n)
	if deeper {
		if err := errors.Join(shown.commit(s, 3), s.values.collect(t.Context(), asked)); err != nil {
			t.Error(err)
		}
		if got, err := shown.shown(s); err != nil || got != shown.acked.Load() {
			t.Errorf("crash before %s: %d shown of %d, %v", k.op, got, shown.acked.Load(), err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("crash before %s: close: %v", k.op, err)
	}
	for _, k2 := range c.taken {
		k2.op = k.op + ", then " + k2.op
		startAfter(t, k2, h, rng, false)
	}
	return len(c.taken)
}

// TestLedgerFails: a ledger that cannot be written fails the store, loses nothing and lets it end.
// The goroutines of the failed Pebble are left behind, so this runs in a process of its own.
func TestLedgerFails(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSyncData} {
		fs := vfs.NewCrashableMem()
		h := &history{rows: 8, valueBytes: 100 << 10}
		var broken sync.Map
		opened := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if _, now := broken.Load(0); now && op.Kind == kind && strings.Contains(op.Path, ledgerName) {
				return errors.New("broken")
			}
			return nil
		}))
		s, err := Open("data", small(Options{FS: opened, CloseWithin: time.Minute}))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.commit(s, 5); err != nil {
			t.Fatal(err)
		}
		broken.Store(0, true)
		if err := h.commit(s, 200); err == nil {
			t.Fatal("the store goes on without its ledger")
		}
		if err := s.Close(); err == nil {
			t.Error("no error at the end")
		}
		for _, percent := range []int{0, 100} {
			left := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, 1))})
			startAfter(t, crashed{fs: left, acked: h.acked.Load(), op: "the ledger broke", percent: percent}, h, nil,
				false)
		}
	}
}
