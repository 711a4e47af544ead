package pebble

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestCutLedger: wherever a ledger is cut, the store shows everything, or refuses in a line that names the ledger. It
// is the file to be put back, whichever file it no longer agrees with.
func TestCutLedger(t *testing.T) {
	if testing.Short() {
		t.Skip("one start after the other: there is nothing here for the race detector")
	}
	mem := vfs.NewCrashableMem()
	h := &history{seed: 1, rows: 50, valueBytes: 6 << 10}
	stored := func() (killed, stopped filesOf) {
		s, err := Open(specimenDir, small(Options{FS: mem}))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.commit(s, 200); err != nil {
			t.Fatal(err)
		}
		now := mem.CrashClone(vfs.CrashCloneCfg{})
		if killed, err = filesIn(now, specimenDir); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if stopped, err = filesIn(mem, specimenDir); err != nil {
			t.Fatal(err)
		}
		return killed, stopped
	}
	for _, when := range []string{"first", "second"} { // the second process has another manifest
		killed, stopped := stored()
		for how, files := range map[string]filesOf{"killed": killed, "stopped": stopped} {
			refused := 0
			for _, n := range append([]int{0}, ends(ledgerName, files[ledgerName])...) {
				cut := maps.Clone(files)
				cut[ledgerName] = bytes.Clone(files[ledgerName][:n])
				fs, err := cut.mem(specimenDir)
				if err != nil {
					t.Fatal(err)
				}
				s, err := Open(specimenDir, small(Options{FS: fs}))
				if err != nil {
					if refused++; !strings.Contains(strings.ToUpper(err.Error()), ledgerName) {
						t.Errorf("%s process, %s, cut to %d: %v", when, how, n, err)
					}
					continue
				}
				if got, err := h.shown(s); err != nil || got != h.acked.Load() {
					t.Errorf("%s process, %s, cut to %d: %d commits, %v", when, how, n, got, err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if refused < 2 {
				t.Errorf("%s process, %s: %d were refused", when, how, refused)
			}
		}
	}
}
