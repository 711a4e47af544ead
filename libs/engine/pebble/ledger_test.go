package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fullState is a state with something of everything.
func fullState(t testing.TB) *ledgerState {
	t.Helper()
	s := newLedgerState("0123")
	s.version = ledgerOfValues
	for _, item := range []string{
		"open 00000000000000ff", logItem("000004.log", 255, "-"), "closed 000004.log 12 0000abcd",
		logItem("000007.log", 255, "000002.log"),
		"table 000005.sst 4096 00000001", "manifest MANIFEST-000001 39 00000002", "options OPTIONS-000003 3 00000003",
		valuesItem("000001.values", 254), valuesItem("000002.values", 253), "filled 000001.values 4096 00000004",
		"marker marker.manifest.000001.MANIFEST-000001", "marker marker.format-version.000008.021",
	} {
		if err := s.apply(item); err != nil {
			t.Fatal(item, err)
		}
	}
	return s
}

// TestLedgerCoding: what is written is read; cut anywhere, a ledger is one of its beginnings or refused; any changed
// byte before the last two lines is damage.
func TestLedgerCoding(t *testing.T) {
	s := fullState(t)
	b, lines := s.encode()
	states := []*ledgerState{s}
	for i := range 5 {
		item := fmt.Sprintf("table %06d.sst 1 00000000", 20+i)
		b = appendLine(b, lines, []string{item})
		lines++
		next, err := parseLedger(b)
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, next)
	}
	got, err := parseLedger(b[:bytes.LastIndexByte(b[:len(b)-1], '\n')])
	if err != nil || !reflect.DeepEqual(got, states[4]) || len(got.tables) != 5 {
		t.Fatal(got, err)
	}
	for n := range b {
		got, err := parseLedger(b[:n])
		found := errors.Is(err, ErrCorrupt)
		for _, s := range states {
			found = found || reflect.DeepEqual(got, s)
		}
		if !found {
			t.Fatalf("cut to %d: %+v, %v", n, got, err)
		}
	}
	last := bytes.LastIndexByte(b[:len(b)-1], '\n')
	for n := range bytes.LastIndexByte(b[:last], '\n') {
		c := bytes.Clone(b)
		c[n] ^= 1 << (n % 8)
		if got, err := parseLedger(c); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d changed: %+v, %v", n, got, err)
		}
	}
	if _, err := parseLedger(appendLine(nil, 0, []string{"headwater-ledger 3 ab"})); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("a later ledger: %v", err)
	}
}

// TestLedgerRewrite: a ledger that has grown is written anew, and says the same.
func TestLedgerRewrite(t *testing.T) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	l := &ledger{fs: fs, dir: "data", state: fullState(t)}
	if err := l.rewrite(); err != nil {
		t.Fatal(err)
	}
	for i, grown := 0, int64(0); l.size >= grown; i++ {
		grown = l.size
		if err := l.add(fmt.Sprintf("table %06d.sst %d 00000000", i%100, i), "gone 000050.sst"); err != nil {
			t.Fatal(err)
		}
		if i > ledgerRewrite {
			t.Fatal("it only grows")
		}
	}
	if err := l.add(logItem("000900.log", 1, "-")); err != nil {
		t.Fatal(err)
	}
	want := l.state
	if err := l.close(true); err != nil {
		t.Fatal(err)
	}
	all, err := filesIn(fs, "data")
	if err != nil || len(all) != 1 {
		t.Fatal(len(all), err)
	}
	got, err := parseLedger(all[ledgerName])
	if err != nil || !reflect.DeepEqual(got, want) || !got.stopped {
		t.Fatalf("%+v, %v", got, err)
	}
}

func FuzzLedger(f *testing.F) {
	b, _ := fullState(f).encode()
	f.Add(b)
	f.Add(appendLine(bytes.Clone(b), 1, []string{itemStopped}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseLedger(b); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
			t.Error(err)
		}
		_, _ = scanLog(bytes.NewReader(b), rand.Uint32(), 1)
	})
}
