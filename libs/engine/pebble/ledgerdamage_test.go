package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// specimen is a store's directory, what it was before, and what it holds.
type specimen struct {
	name   string
	h      *history
	files  filesOf
	older  []filesOf // copies made while it ran
	newest string    // the log that a killed process was writing; "" if the store was stopped
	o      Options
}

const specimenDir = "data"

// specimens returns the same store stopped and killed. A killed one has several logs, tables and a manifest of
// several records: tables are kept from being written during its last part. Two with different seeds have files of
// the same names and sizes.
func specimens(t *testing.T, seed int, o Options) (stopped, killed *specimen) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	h := &history{seed: seed, rows: 100, valueBytes: 6 << 10}
	var noTables atomic.Bool
	opened := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if noTables.Load() && op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
			return errors.New("no tables now")
		}
		return nil
	}))
	stopped, killed = &specimen{name: "stopped", h: h, o: o},
		&specimen{name: "killed", h: &history{seed: seed, rows: h.rows, valueBytes: h.valueBytes}, o: o}
	o.FS = opened
	copied := func() filesOf {
		now := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
		f, err := filesIn(now, specimenDir)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	run := func(commits int) *Store {
		s, err := Open(specimenDir, small(o))
		if err != nil {
			t.Fatal(err)
		}
		for range commits {
			if err := h.commit(s, 1); err != nil {
				t.Fatal(err)
			}
			if h.acked.Load()%60 == 0 {
				killed.older = append(killed.older, copied())
			}
		}
		return s
	}
	for range 2 {
		if err := run(240).Close(); err != nil {
			t.Fatal(err)
		}
		killed.older = append(killed.older, copied())
	}
	s := run(240)
	noTables.Store(true)
	if err := h.commit(s, 450); err != nil {
		t.Fatal(err)
	}
	killed.older = append(killed.older, copied())
	if err := h.commit(s, 5); err != nil {
		t.Fatal(err)
	}
	killed.files = copied()
	killed.h.acked.Store(h.acked.Load())
	for name := range killed.files {
		if kindOf(name) == kindLog && name > killed.newest {
			killed.newest = name
		}
	}
	noTables.Store(false)
	stopped.older = slices.Clone(killed.older)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	stopped.files = copied()
	return stopped, killed
}

// harm is one thing done to one file.
type harm struct {
	file, what string
	bytes      []byte // nil: the file is removed
	// torn: where the file of a killed process would be damaged by it; a store may then show what stands before, if
	// nothing after it proves that it was durable.
	at     int
	within bool // the file has its length and its end
}

// harms returns everything that is done to a file.
func (p *specimen) harms(rng *rand.Rand, name string, other filesOf) []harm {
	b := p.files[name]
	all := []harm{{name, "missing", nil, 0, false}, {name, "emptied", []byte{}, 0, false}}
	cuts := ends(name, b)
	for range 10 {
		if len(b) > 0 {
			cuts = append(cuts, rng.IntN(len(b)))
		}
	}
	for _, n := range cuts {
		all = append(all, harm{name, fmt.Sprintf("cut to %d of %d", n, len(b)), b[:n:n], n, false})
	}
	blocks := 8
	if kindOf(name) == kindTable {
		blocks = 1 // Pebble looks for the flipped bit, which takes long
	}
	for range 2 * blocks {
		if len(b) == 0 {
			break
		}
		flipped, at, bit := bytes.Clone(b), rng.IntN(len(b)), rng.IntN(8)
		flipped[at] ^= 1 << bit
		all = append(all, harm{name, fmt.Sprintf("bit %d of byte %d flipped", bit, at), flipped, at, true})
	}
	for range blocks {
		if len(b) == 0 {
			break
		}
		zeros, size := bytes.Clone(b), []int{512, 4096, 32 << 10}[rng.IntN(3)]
		at := rng.IntN(len(b)) / size * size
		clear(zeros[at:min(len(b), at+size)])
		all = append(all, harm{name, fmt.Sprintf("%d bytes from %d are zeros", size, at), zeros, at, true})
	}
	seen := map[string]bool{string(b): true}
	for _, old := range p.older {
		if o, ok := old[name]; ok && !seen[string(o)] {
			seen[string(o)] = true
			all = append(all, harm{name, fmt.Sprintf("an older copy of %d bytes", len(o)), o, len(o), false})
		}
	}
	if o, ok := other[name]; ok {
		all = append(all, harm{name, "another store's", o, 0, false})
	}
	return slices.DeleteFunc(all, func(h harm) bool { return h.bytes != nil && bytes.Equal(h.bytes, b) })
}

// ends returns where records end: of a log, a manifest (both by the chunks in them) or the ledger.
func ends(name string, b []byte) []int {
	var at []int
	switch kind := kindOf(name); {
	case name == ledgerName:
		for i, c := range b {
			if c == '\n' {
				at = append(at, i+1)
			}
		}
	case kind == kindLog, kind == kindManifest:
		number, _ := logNumber(name)
		for block := 0; block < len(b); block += logBlock {
			for pos := block; ; {
				n, _ := chunkAt(b[pos:min(len(b), block+logBlock)], uint32(number))
				if n == 0 {
					break
				}
				pos += n
				at = append(at, pos)
			}
		}
	}
	return at
}

func (p *specimen) open(fs vfs.FS) (*Store, error) {
	o := p.o
	o.FS = fs
	return Open(specimenDir, small(o))
}

// verdict opens the store with the harm done and returns what is wrong with how it takes that; refused tells whether
// it did.
func (p *specimen) verdict(h harm, deeper bool) (refused bool, err error) {
	files := maps.Clone(p.files)
	if files[h.file] = h.bytes; h.bytes == nil {
		delete(files, h.file)
	}
	fs, err := files.mem(specimenDir)
	if err != nil {
		return false, err
	}
	s, err := p.open(fs)
	if err != nil {
		return true, errors.Join(p.refusal(h, err, files, fs), p.putBack(h, fs))
	}
	defer func() { _ = s.Close() }()
	n, err := p.h.shown(s)
	if errors.Is(err, errWrong) {
		return false, err
	}
	if err != nil && (kindOf(h.file) == kindTable || kindOf(h.file) == kindValues && h.within) {
		return false, nil // the damage is met by reads, and told
	}
	if err != nil {
		return false, err
	}
	switch acked := p.h.acked.Load(); {
	case n == acked:
	case h.file != p.newest, h.bytes == nil, n > acked:
		return false, fmt.Errorf("%d commits are shown of %d", n, acked)
	case !p.mayEnd(h, n):
		return false, fmt.Errorf("%d commits are shown of %d, but whole ones follow what is damaged", n, acked)
	}
	if deeper {
		return false, p.goesOn(s, fs, n)
	}
	return false, nil
}

// mayEnd tells whether the newest log of a killed process may be taken to end after n commits: it has been cut, with or
// without zeros behind, or the damage lies in the last commit.
func (p *specimen) mayEnd(h harm, n int64) bool {
	return bytes.HasPrefix(p.files[h.file], bytes.TrimRight(h.bytes, "\x00")) || n == p.h.acked.Load()-1
}

// refusal checks how an opening was refused: in one line, which names the file, and with nothing changed.
func (p *specimen) refusal(h harm, err error, files filesOf, fs vfs.FS) error {
	text := err.Error()
	if !errors.Is(err, ErrCorrupt) || strings.ContainsAny(text, "\n\r") {
		return fmt.Errorf("refused with %q", text)
	}
	named := slices.ContainsFunc(append(slices.Collect(maps.Keys(p.files)), "marker.*"), func(name string) bool {
		return strings.Contains(text, name)
	})
	if !named {
		return fmt.Errorf("refused without naming a file: %q", text)
	}
	if !strings.Contains(text, "put the file back") {
		return fmt.Errorf("refused without saying what can be done: %q", text)
	}
	if !strings.Contains(text, "nothing has been changed") {
		return nil
	}
	after, err := filesIn(fs, specimenDir)
	if err != nil {
		return err
	}
	delete(after, "LOCK")
	delete(files, "LOCK")
	if !maps.EqualFunc(after, files, bytes.Equal) {
		return fmt.Errorf("refused, but files were changed: %q", text)
	}
	return nil
}

// putBack does what a refusal says: with a value file put back, the store shows all that was acknowledged.
func (p *specimen) putBack(h harm, fs vfs.FS) error {
	if kindOf(h.file) != kindValues {
		return nil
	}
	f, err := fs.Create(fs.PathJoin(specimenDir, h.file), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(bytes.Clone(p.files[h.file]))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	s, err := p.open(fs)
	if err != nil {
		return fmt.Errorf("put back: %w", err)
	}
	defer func() { _ = s.Close() }()
	if n, err := p.h.shown(s); n != p.h.acked.Load() || err != nil {
		return fmt.Errorf("put back: %d commits are shown of %d, %w", n, p.h.acked.Load(), err)
	}
	return nil
}

// goesOn checks that a store that has been opened takes commits, and is as it should be when opened again.
func (p *specimen) goesOn(s *Store, fs vfs.FS, n int64) error {
	h := &history{seed: p.h.seed, rows: p.h.rows, valueBytes: p.h.valueBytes}
	h.acked.Store(n)
	if err := h.commit(s, 30); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	s, err := p.open(fs)
	if err != nil {
		return fmt.Errorf("opened again: %w", err)
	}
	defer func() { _ = s.Close() }()
	if got, err := h.shown(s); got != h.acked.Load() || err != nil {
		return fmt.Errorf("opened again: %d commits of %d, %w", got, h.acked.Load(), err)
	}
	return nil
}

// thorough makes TestDamage do to tables and logs many times as much.
const thorough = "HEADWATER_TEST_THOROUGH"

// TestDamage: whatever happens to one file of a store that was stopped or killed, the next start shows everything
// that was acknowledged, or refuses in one line; only the newest log of a killed one may end where a crash could have
// ended it.
func TestDamage(t *testing.T) {
	if testing.Short() {
		t.Skip("one start after the other: there is nothing here for the race detector")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	stopped, killed := specimens(t, 1, Options{})
	otherStopped, otherKilled := specimens(t, 2, Options{})
	for _, p := range []struct{ it, other *specimen }{{stopped, otherStopped}, {killed, otherKilled}} {
		t.Run(p.it.name, func(t *testing.T) {
			same, cases, refused := 0, 0, 0
			for _, name := range slices.Sorted(maps.Keys(p.it.files)) {
				if len(p.other.files[name]) == len(p.it.files[name]) {
					same++
				}
				rounds := 1
				if os.Getenv(thorough) != "" {
					rounds = 10
				}
				for range rounds {
					for _, h := range p.it.harms(rng, name, p.other.files) {
						r, err := p.it.verdict(h, rng.IntN(12) == 0)
						if err != nil {
							t.Errorf("%s: %s: %v", h.file, h.what, err)
						}
						if cases++; r {
							refused++
						}
					}
				}
			}
			t.Logf("%d files (%d as large as those of another store), %d cases, %d refused, the others complete",
				len(p.it.files), same, cases, refused)
		})
	}
}
