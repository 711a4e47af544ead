package pebble

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestKilledThenPowerLoss: what a killed process had written but not synced is not claimed by the ledger of the next
// one before it is durable.
func TestKilledThenPowerLoss(t *testing.T) {
	h := &history{rows: 8, valueBytes: 20 << 10}
	killed := vfs.NewCrashableMem()
	s, err := Open("data", small(Options{FS: killed}))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.commit(s, 20); err != nil {
		t.Fatal(err)
	}
	files, err := filesIn(killed, "data")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	state, err := parseLedger(files[ledgerName])
	if err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if l, ok := state.logs[name]; kindOf(name) != kindManifest && (!ok || l.closed) {
			continue
		}
		fs := half(t, files, name)
		l, err := openLedger(fs, "data", false)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.begin(); err != nil {
			t.Fatal(err)
		}
		_ = l.close(false)
		off := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0, RNG: rand.New(rand.NewPCG(1, 1))})
		startAfter(t, crashed{fs: off, op: "the second process opens the store, half of " + name +
			" not synced by the first"}, h, nil, false)
	}
}

// half returns a file system with the files, of which the second half of one is not synced.
func half(t *testing.T, files filesOf, name string) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	for n, b := range files {
		f, err := fs.Create(fs.PathJoin("data", n), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		synced := len(b)
		if n == name {
			synced /= 2
		}
		if _, err := f.Write(bytes.Clone(b[:synced])); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(bytes.Clone(b[synced:])); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	for _, dir := range []string{"", "data"} {
		d, err := fs.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
		_ = d.Close()
	}
	return fs
}

// TestLedgerAfterNoSpace: a line that found no space does not end the ledger of a store that is opened again in the
// same process.
func TestLedgerAfterNoSpace(t *testing.T) {
	mem := vfs.NewMem()
	full := false
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.Contains(op.Path, ledgerName) {
			return syscall.ENOSPC
		}
		return nil
	}))
	if err := mem.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := openLedger(fs, "data", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.begin(); err != nil {
		t.Fatal(err)
	}
	full = true
	first, second := fileItem(itemOptions, "OPTIONS-000001", extent{1, 2}),
		fileItem(itemOptions, "OPTIONS-000002", extent{3, 4})
	if err := l.add(first); !isNoSpace(err) {
		t.Fatal(err)
	}
	if err := l.begin(); !isNoSpace(err) {
		t.Fatal("begun on a full disk:", err)
	}
	full = false
	if err := l.begin(); err != nil {
		t.Fatal(err)
	}
	if err := l.add(second); err != nil {
		t.Fatal("the ledger takes nothing more:", err)
	}
	_ = l.close(false)
	files, err := filesIn(mem, "data")
	if err != nil {
		t.Fatal(err)
	}
	state, err := parseLedger(files[ledgerName])
	if err != nil || len(state.options) != 2 {
		t.Errorf("%v, %v", state, err)
	}
	if _, left := files[ledgerTmp]; left {
		t.Error(ledgerTmp, "is left")
	}
}

// TestCreateOnFullDisk: where there is no store and no space for one, Open says so.
func TestCreateOnFullDisk(t *testing.T) {
	for _, what := range []errorfs.OpKind{errorfs.OpCreate, errorfs.OpFileWrite} {
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == what {
				return syscall.ENOSPC
			}
			return nil
		}))
		done := make(chan error, 1)
		go func() {
			_, err := Open("data", small(Options{FS: fs}))
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "no space left on the disk") {
				t.Error(err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("Open waits for space")
		}
	}
}

// TestGivenUpTable: a table that Pebble has not synced is not in the ledger.
func TestGivenUpTable(t *testing.T) {
	mem := vfs.NewMem()
	l, err := openLedger(mem, "", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.begin(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.close(false) }()
	fs := &ledgerFS{FS: mem, l: l}
	for name, sync := range map[string]bool{"000001.sst": true, "000002.sst": false} {
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("table")); err != nil {
			t.Fatal(err)
		}
		if sync {
			err = f.SyncData()
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		if err := l.settle(); err != nil {
			t.Fatal(err)
		}
		if _, listed := l.state.tables[name]; listed != sync {
			t.Errorf("%s: synced %v, listed %v", name, sync, listed)
		}
	}
}
