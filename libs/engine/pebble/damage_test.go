package pebble

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// damagedStore is a store with one flipped bit in the block of a row that is neither its first nor its last, in its
// only table.
func damagedStore(t *testing.T, o Options) (s *Store, file string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir, small(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if err := put(s, damagedKey(i), incompressible(i, 20<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names := files(t, dir, "*.sst")
	if len(names) != 1 {
		t.Fatal(names)
	}
	if err := rewrite(names[0], func(b []byte) { b[len(b)/2] ^= 1 }); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, small(o)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, filepath.Base(names[0])
}

func damagedKey(i int) string { return fmt.Sprintf("d%02d", i) }

// TestDamagedBlock: a damaged block fails the reads that meet it, of every kind, with ErrDamaged and the file's name;
// every other read is right, and so are commits, those of a transaction that has met the damage among them.
func TestDamagedBlock(t *testing.T) {
	var reports atomic.Int64
	s, file := damagedStore(t, Options{OnDamage: func(err error) {
		if !errors.Is(err, engine.ErrDamaged) {
			t.Error(err)
		}
		reports.Add(1)
	}})
	ctx := t.Context()
	r, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := func(what string, err error) {
		t.Helper()
		var d *engine.Damage
		if !errors.Is(err, engine.ErrDamaged) || !errors.As(err, &d) || d.File != file ||
			errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var hit []string
	var good, all [][]byte
	for range getsBeforeIter { // both ways of looking a row up
		hit, good, all = nil, nil, nil
		for i := range 30 {
			key := []byte(damagedKey(i))
			all = append(all, key)
			if v, err := r.Get(ctx, key); err != nil {
				want("Get", err)
				hit = append(hit, string(key))
			} else if string(v) != string(incompressible(i, 20<<10)) {
				t.Errorf("%s is wrong", key)
			} else {
				good = append(good, key)
			}
		}
	}
	if len(hit) == 0 || len(hit) > 2 {
		t.Fatalf("damaged: %q", hit)
	}
	_, err = r.GetMany(ctx, all)
	want("GetMany", err)
	_, err = r.GetMany(ctx, [][]byte{[]byte(hit[0])})
	want("GetMany of one", err)
	if _, err = r.GetMany(ctx, good); err != nil {
		t.Error(err)
	}
	for _, q := range []engine.Range{{}, {Reverse: true}, {KeysOnly: true}, {Begin: []byte(hit[0])}} {
		it := r.Scan(ctx, q)
		for it.Next() {
		}
		want(fmt.Sprintf("Scan %+v", q), it.Err())
		_ = it.Close()
	}
	it := r.Scan(ctx, engine.Range{End: []byte(damagedKey(5))})
	n := 0
	for it.Next() {
		n++
	}
	if err := it.Close(); err != nil || n != 5 {
		t.Error(n, err)
	}
	if reports.Load() == 0 {
		t.Error("nobody was told")
	}

	if err := mutate(s, func(x engine.Txn) {
		_, err := x.Get(ctx, []byte(hit[0]))
		want("Get of a transaction", err)
		x.Set([]byte("new"), []byte("x"))
	}); err != nil {
		t.Error(err)
	}
	if err := put(s, hit[0], []byte("over it")); err != nil {
		t.Error(err)
	}
}

// TestDamageStopsNoWrites: tables that no compaction can move, since one of them is damaged, do not make writes wait
// for ever, and compactions are not tried over and over.
func TestDamageStopsNoWrites(t *testing.T) {
	var reports atomic.Int64
	s, _ := damagedStore(t, Options{OnDamage: func(error) { reports.Add(1) }})
	done := make(chan error, 1)
	go func() {
		for i := range 30 * (l0Stop + 10) {
			// Over all of the damaged table, so that every table overlaps it.
			if err := put(s, damagedKey(i%30), incompressible(i, 40<<10)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(diskLimit):
		t.Fatal("writes wait for ever")
	}
	m := s.db.Metrics()
	t.Logf("%d flushes, %d sublevels, %d failed compactions in a row", m.Flush.Count, m.Levels[0].Sublevels,
		s.damage.failures.Load())
	if m.Flush.Count <= l0Stop {
		t.Errorf("only %d flushes: the test shows nothing", m.Flush.Count)
	}
	// With pauses that double from 100 ms, this many fill more than an hour.
	if n := reports.Load(); n == 0 || n > 40 {
		t.Errorf("damage was met %d times", n)
	}
}

// TestKnownDamage: a damaged block is looked at once, and again when it has been known for a while.
func TestKnownDamage(t *testing.T) {
	s, _ := damagedStore(t, Options{})
	r, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	scan := func() error {
		it := r.Scan(t.Context(), engine.Range{})
		for it.Next() {
		}
		return it.Close()
	}
	known := func(err error) bool { return err != nil && strings.Contains(err.Error(), "(known)") }
	if err := scan(); !errors.Is(err, engine.ErrDamaged) {
		t.Fatal(err)
	}
	k := &s.damage.known
	if err := scan(); !errors.Is(err, engine.ErrDamaged) || !known(err) {
		t.Errorf("the second time: %v", err)
	}
	if len(k.blocks) != 1 {
		t.Fatalf("known: %v", k.blocks)
	}
	for b := range k.blocks {
		if err := k.look(b.path, b.offset, time.Now().Add(2*damageRecheck)); err != nil {
			t.Errorf("after a while: %v", err)
		}
	}
	if k.any.Load() {
		t.Error("not forgotten")
	}
}

// TestCompactionPauses: pauses grow while compactions fail at damage, up to a bound, and end with the first that
// succeeds. Other failures are Pebble's.
func TestCompactionPauses(t *testing.T) {
	var d damage
	now := time.Now()
	for i := range 40 {
		d.compactionEnded(syscall.EIO, now)
		if got, want := time.Duration(d.until.Load()-now.UnixNano()),
			min(compactPauseMin<<min(i, 16), compactPauseMax); got != want {
			t.Errorf("pause %d: %v, want %v", i, got, want)
		}
	}
	if !d.compactionsPaused() {
		t.Error("not paused")
	}
	d.compactionEnded(syscall.ENOSPC, now)
	if d.failures.Load() != 40 {
		t.Error("a full disk is no damage")
	}
	if d.compactionEnded(nil, now); d.compactionsPaused() || d.failures.Load() != 0 {
		t.Error("paused after a success")
	}
}

// TestStall: commits wait while compactions are behind, and go on when they are not, or the store ends.
func TestStall(t *testing.T) {
	s, err := Open(t.TempDir(), small(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	s.stall.set(true)
	done := make(chan error, 1)
	go func() { done <- put(s, "a", nil) }()
	s.stall.set(false)
	if err := <-done; err != nil {
		t.Error(err)
	}
	s.stall.set(true)
	go func() { done <- put(s, "b", nil) }()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-done // its outcome depends on who came first
}

// TestIsDamage: what a disk says of a block that it has lost is damage; what passes is not.
func TestIsDamage(t *testing.T) {
	for _, err := range []error{syscall.EIO, io.ErrUnexpectedEOF, io.EOF} {
		if !isDamage(fmt.Errorf("read: %w", err)) {
			t.Error(err)
		}
	}
	for _, err := range []error{syscall.ENOSPC, syscall.EMFILE, errors.New("x"), nil} {
		if isDamage(err) {
			t.Error(err)
		}
	}
}
