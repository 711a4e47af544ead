package enginetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
)

func testStampErrors(t *testing.T, e Engine) {
	stamped := func(index uint16) []byte {
		return binary.BigEndian.AppendUint16(make([]byte, engine.StampLen-2), index)
	}
	for name, f := range map[string]func(x engine.Txn){
		"index beyond UseStamps": func(x engine.Txn) { x.UseStamps(2); x.SetStampedValue([]byte("a"), stamped(2), 0) },
		"no UseStamps":           func(x engine.Txn) { x.SetStampedValue([]byte("a"), stamped(0), 0) },
		"offset beyond value":    func(x engine.Txn) { x.UseStamps(1); x.SetStampedValue([]byte("a"), stamped(0), 1) },
		"negative offset":        func(x engine.Txn) { x.UseStamps(1); x.SetStampedKey(stamped(0), -1, nil) },
	} {
		x := begin(t, e.Store)
		f(x)
		if _, err := commit(x); err == nil {
			t.Errorf("%s: committed", name)
		}
	}
	if m := e.Store.Limits().MaxStamps; m > 0 {
		x := begin(t, e.Store)
		x.UseStamps(m + 1)
		x.SetStampedValue([]byte("a"), stamped(0), 0)
		if _, err := commit(x); !errors.Is(err, engine.ErrTooLarge) {
			t.Errorf("%d stamps: %v", m+1, err)
		}
	}
	r := snapshot(t, e.Store)
	defer r.Close()
	wantScan(t, r, engine.Range{})
}

// sizeUnbounded is the size that the tests try where Limits set no bound.
const sizeUnbounded = 3 << 20

func testSizes(t *testing.T, e Engine) {
	s, l := e.Store, e.Store.Limits()
	keyBytes, valueBytes := l.KeyBytes, l.ValueBytes
	if keyBytes == 0 {
		keyBytes = 20_000
	}
	if valueBytes == 0 {
		valueBytes = sizeUnbounded
	}
	key := bytes.Repeat([]byte{0xff}, keyBytes)
	key[0] = 'k'
	value := bytes.Repeat([]byte{7}, valueBytes)
	write(t, s, func(x engine.Txn) { x.Set(key, value) })
	r := snapshot(t, s)
	wantGet(t, r, string(key), value)
	wantScan(t, r, engine.Range{}, row{string(key), string(value)})
	r.Close()

	tooLarge := func(name string, f func(x engine.Txn)) {
		t.Helper()
		x := begin(t, s)
		x.Set([]byte("small"), []byte("x"))
		f(x)
		if _, err := commit(x); !errors.Is(err, engine.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l.KeyBytes > 0 {
		testBeyond(t, s, key, value)
		tooLarge("stamped key", func(x engine.Txn) {
			x.UseStamps(1)
			x.SetStampedKey(key[:l.KeyBytes-l.StampBytes+1], 1, nil)
		})
		tooLarge("Set key", func(x engine.Txn) { x.Set(append(key, 0), nil) })
		tooLarge("Clear key", func(x engine.Txn) { x.Clear(append(key, 0)) })
	}
	if l.ValueBytes > 0 {
		tooLarge("stamped value", func(x engine.Txn) {
			x.UseStamps(1)
			x.SetStampedValue([]byte("a"), make([]byte, l.ValueBytes-l.StampBytes+1), 0)
		})
		tooLarge("Set value", func(x engine.Txn) { x.Set([]byte("a"), append(value, 0)) })
	}
	if l.TxnBytes > 0 && l.TxnBytes < 64<<20 {
		rows := l.TxnBytes/len(value) + 1
		tooLarge("transaction", func(x engine.Txn) {
			for i := range rows {
				x.Set(fmt.Appendf(nil, "r%d", i), value)
			}
		})
		// Nearly as large is taken.
		write(t, s, func(x engine.Txn) {
			for i := range rows * 9 / 10 {
				x.Set(fmt.Appendf(nil, "r%d", i), value)
			}
		})
	}
	r = snapshot(t, s)
	defer r.Close()
	wantGet(t, r, "small", nil)
}

// testBeyond: what is read and the bounds of ranges may be longer than any row's key; last is the longest that there
// can be, the only one in the store.
func testBeyond(t *testing.T, s engine.Store, last, value []byte) {
	t.Helper()
	long := append(bytes.Clone(last), make([]byte, len(last))...)
	longer := append(bytes.Clone(long), 1)
	want := row{string(last), string(value)}
	reads := func(r engine.Reader) {
		t.Helper()
		wantGet(t, r, string(long), nil)
		wantScan(t, r, engine.Range{Begin: []byte("k"), End: long}, want)
		wantScan(t, r, engine.Range{Begin: []byte("k"), End: long, Reverse: true}, want)
		wantScan(t, r, engine.Range{Begin: long})
		wantScan(t, r, engine.Range{Begin: long, End: longer})
	}
	r := snapshot(t, s)
	reads(r)
	r.Close()
	write(t, s, func(x engine.Txn) {
		reads(x)
		x.AddReadConflict(last, long)
		x.AddReadConflict(long, longer)
		x.AddWriteConflict(last, long)
		x.AddWriteConflict(long, longer)
		x.ClearRange(long, longer)
		x.ClearRange(long, nil)
		x.Set([]byte("small"), []byte("x"))
	})
	r = snapshot(t, s)
	wantGet(t, r, string(last), value)
	r.Close()
	write(t, s, func(x engine.Txn) { x.ClearRange([]byte("k"), long) })
	r = snapshot(t, s)
	wantScan(t, r, engine.Range{}, row{"small", "x"})
	r.Close()
	write(t, s, func(x engine.Txn) { x.Clear([]byte("small")); x.Set(last, value) })
}

func testWaitChange(t *testing.T, e Engine) {
	s := e.Store
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	write(t, s, func(x engine.Txn) { x.Set([]byte("a"), []byte("1")); x.Set([]byte("e"), nil) })
	// What differs already returns at once.
	for _, w := range []struct{ key, old []byte }{{[]byte("a"), nil}, {[]byte("a"), []byte("0")}, {[]byte("no"), []byte("1")}, {[]byte("e"), nil}} {
		if err := s.WaitChange(ctx, w.key, w.old); err != nil {
			t.Fatalf("WaitChange(%q, %q): %v", w.key, w.old, err)
		}
	}
	for name, f := range map[string]func(x engine.Txn){
		"set":         func(x engine.Txn) { x.Set([]byte("a"), []byte("2")) },
		"clear":       func(x engine.Txn) { x.Clear([]byte("a")) },
		"clear range": func(x engine.Txn) { x.ClearRange([]byte("Z"), []byte("b")) },
		"stamped":     func(x engine.Txn) { x.UseStamps(1); x.SetStampedValue([]byte("a"), make([]byte, 12), 0) },
	} {
		write(t, s, func(x engine.Txn) { x.Set([]byte("a"), []byte("1")) })
		done := make(chan error, 3)
		for range cap(done) {
			go func() { done <- waitChanged(ctx, s, []byte("a"), []byte("1")) }()
		}
		write(t, s, func(x engine.Txn) { x.Set([]byte("b"), []byte(name)) }) // another row
		write(t, s, f)
		for range cap(done) {
			if err := <-done; err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	// Nothing changes: the context ends it.
	write(t, s, func(x engine.Txn) { x.Set([]byte("a"), []byte("1")) })
	ctx2, cancel2 := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- waitChanged(ctx2, s, []byte("a"), []byte("1")) }()
	cancel2()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("canceled: %v", err)
	}
}

// waitChanged calls WaitChange until the value really differs: spurious returns are allowed.
func waitChanged(ctx context.Context, s engine.Store, key, old []byte) error {
	for {
		if err := s.WaitChange(ctx, key, old); err != nil {
			return err
		}
		r, err := s.Snapshot(ctx)
		if err != nil {
			return err
		}
		v, err := r.Get(ctx, key)
		same := bytes.Equal(v, old) && (v == nil) == (old == nil)
		r.Close()
		if err != nil || !same {
			return err
		}
	}
}

func testContext(t *testing.T, e Engine) {
	s := e.Store
	write(t, s, func(x engine.Txn) { x.Set([]byte("a"), []byte("1")) })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := s.Snapshot(ended); err == nil {
		r.Close()
		t.Error("Snapshot with an ended context")
	}
	if x, err := s.Begin(ended); err == nil {
		x.Discard()
		t.Error("Begin with an ended context")
	}
	r := snapshot(t, s)
	defer r.Close()
	if _, err := r.Get(ended, []byte("a")); !errors.Is(err, context.Canceled) {
		t.Error("Get:", err)
	}
	it := r.Scan(ended, engine.Range{})
	for it.Next() {
	}
	if err := it.Err(); !errors.Is(err, context.Canceled) {
		t.Error("Scan:", err)
	}
	_ = it.Close()
	wantGet(t, r, "a", []byte("1")) // the reader itself is well
}

// testEnded: using what has ended fails and harms nobody.
func testEnded(t *testing.T, e Engine) {
	s := e.Store
	write(t, s, func(x engine.Txn) { x.Set([]byte("a"), []byte("1")) })
	x := begin(t, s)
	x.Set([]byte("a"), []byte("2"))
	x.Discard()
	x.Discard()
	if _, err := x.Commit(t.Context()); err == nil {
		t.Error("Commit after Discard")
	}
	if _, err := x.Get(t.Context(), []byte("a")); err == nil {
		t.Error("Get after Discard")
	}
	x = begin(t, s)
	x.Set([]byte("b"), []byte("1"))
	if _, err := commit(x); err != nil {
		t.Fatal(err)
	}
	x.Discard() // does nothing
	if _, err := x.Commit(t.Context()); err == nil {
		t.Error("Commit after Commit")
	}
	x = begin(t, s)
	x.Set([]byte("c"), []byte("1"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Error("Commit with an ended context:", err)
	}
	x.Discard()
	r := snapshot(t, s)
	defer r.Close()
	wantScan(t, r, engine.Range{}, row{"a", "1"}, row{"b", "1"})
}
