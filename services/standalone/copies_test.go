package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/record"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// copyDir copies a data directory, as an operator would. skip leaves files of the store out.
func copyDir(t *testing.T, from string, skip func(name string, size int64) bool) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if d.Type() == fs.ModeSocket {
			return nil // of the admin API: a server that was killed leaves it
		}
		b, err := os.ReadFile(path)
		if err != nil || skip != nil && skip(d.Name(), int64(len(b))) {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// written is a server's data directory, stopped or killed, and what it has acknowledged: keys k00000 … at revisions
// 2, 3, …, and keys v00 … with large values, which lie in files of their own.
type written struct {
	dir   string
	keys  int
	large []string
}

// write fills a data directory. The values are large for the memtables, so that there are tables and several logs.
func write(t *testing.T, sig os.Signal) written {
	t.Helper()
	w := written{dir: filepath.Join(t.TempDir(), "d"), keys: 3000}
	p := start(t, w.dir, "--value-files", "--memtable-bytes", strconv.Itoa(1<<20))
	c := p.client(t)
	rnd := rand.NewChaCha8([32]byte{1})
	for i := 0; i < w.keys; {
		var ops []clientv3.Op
		for range 2 {
			b := make([]byte, 1<<10)
			_, _ = rnd.Read(b)
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("k%05d", i), string(b)))
			i++
		}
		if _, err := c.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 12 {
		b := make([]byte, 64<<10)
		_, _ = rnd.Read(b)
		w.large = append(w.large, string(b))
		if err := put(t, c, fmt.Sprintf("v%02d", i), w.large[i]); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Close()
	p.stop(t, sig)
	return w
}

// storeFiles returns the files of the store that match a pattern, the oldest first.
func (w written) storeFiles(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(w.dir, storeDir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	slices.Sort(names)
	return names
}

// outcome starts a server on a directory and returns its refusal, or "" if it serves everything.
func (w written) outcome(t *testing.T, dir string, prefixAllowed bool) string {
	t.Helper()
	cmd, out := command(nil, "--data-dir", dir, "--listen-client-urls", "http://127.0.0.1:0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, out: out, exited: make(chan struct{})}
	go func() { defer close(p.exited); _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill(); <-p.exited }()
	var url []string
	refused := false
	eventually(t, "started or refused", func() bool {
		select {
		case <-p.exited:
			refused = true
		default:
		}
		url = servingURL.FindStringSubmatch(out.String())
		return refused || url != nil
	})
	if refused {
		var lines []string
		for line := range strings.Lines(out.String()) {
			if !strings.HasPrefix(line, "{") {
				lines = append(lines, line)
			} else if !json.Valid([]byte(line)) {
				t.Errorf("a log line that is not JSON: %s", line)
			}
		}
		if len(lines) != 1 || !strings.Contains(lines[0], "corrupt: ") || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("refused with code %d and %q", cmd.ProcessState.ExitCode(), lines)
		}
		return strings.Join(lines, "")
	}
	p.url = url[1]
	w.complete(t, p.client(t), prefixAllowed)
	return ""
}

// complete checks that all keys are there, each at its revision; with prefixAllowed, perhaps not the last ones.
func (w written) complete(t *testing.T, c *clientv3.Client, prefixAllowed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := c.Get(ctx, "k", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return // a damaged block was met and told
	}
	if len(r.Kvs) != w.keys && !prefixAllowed {
		t.Errorf("%d keys of %d at revision %d", len(r.Kvs), w.keys, r.Header.Revision)
	}
	for i, kv := range r.Kvs {
		if string(kv.Key) != fmt.Sprintf("k%05d", i) || kv.ModRevision != int64(2+i/2) {
			t.Fatalf("key %d is %q at revision %d", i, kv.Key, kv.ModRevision)
		}
	}
	r, err = c.Get(ctx, "v", clientv3.WithPrefix())
	if err != nil {
		return
	}
	if len(r.Kvs) != len(w.large) && !prefixAllowed {
		t.Errorf("%d large values of %d", len(r.Kvs), len(w.large))
	}
	for i, kv := range r.Kvs {
		if string(kv.Value) != w.large[i] {
			t.Errorf("%s has another value", kv.Key)
		}
	}
}

// TestDamagedCopies: what has been tried on copies of data directories, and a sample of what libs/engine/pebble does
// to every file in memory: a start shows everything, or refuses in a line that names the file.
func TestDamagedCopies(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	stopped, killed := write(t, syscall.SIGTERM), write(t, syscall.SIGKILL)
	logs := killed.storeFiles(t, "*.log")
	newest := logs[len(logs)-1]
	tried, complete := 0, 0
	try := func(what string, w written, file string, damage func(path string) error) string {
		dir := copyDir(t, w.dir, nil)
		if err := damage(filepath.Join(dir, storeDir, file)); err != nil {
			t.Fatal(err)
		}
		said := w.outcome(t, dir, w.dir == killed.dir && file == newest && !strings.Contains(what, "removed"))
		if tried++; said == "" {
			complete++
		} else if !strings.Contains(strings.ToUpper(said), strings.ToUpper(file)) { // "is not in the ledger" will do
			t.Errorf("%s: %s: refused without its name: %s", file, what, said)
		}
		t.Logf("%s: %s: %s", file, what, orServes(said))
		return said
	}
	cut := func(to func(size int64) int64) func(path string) error {
		return func(path string) error {
			st, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.Truncate(path, to(st.Size()))
		}
	}
	flip := func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			return err
		}
		b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
		return os.WriteFile(path, b, 0o600)
	}
	for _, w := range []written{stopped, killed} {
		for _, pattern := range []string{
			"marker.manifest.*", "marker.format-version.*", "MANIFEST-*", "*.log", "*.sst", "*.values", "LEDGER",
		} {
			names := w.storeFiles(t, pattern)
			name := names[rnd.IntN(len(names))]
			if pattern == "MANIFEST-*" {
				name = names[len(names)-1]
			}
			said := try("removed", w, name, os.Remove)
			if said == "" && pattern != "*.log" && pattern != "*.sst" { // one of these may be about to be deleted anyway
				t.Errorf("%s was removed, and nothing is said", name)
			}
			try("emptied", w, name, cut(func(int64) int64 { return 0 }))
			try("cut", w, name, cut(func(n int64) int64 { return rnd.Int64N(max(n, 1)) }))
			try("flipped", w, name, flip)
		}
	}
	for _, w := range []written{stopped, killed} {
		for _, name := range w.storeFiles(t, "*.log") {
			try("removed", w, name, os.Remove)
			try("emptied", w, name, cut(func(int64) int64 { return 0 }))
		}
		manifests := w.storeFiles(t, "MANIFEST-*")
		manifest := manifests[len(manifests)-1]
		ends := recordEnds(t, filepath.Join(w.dir, storeDir, manifest))
		for _, end := range ends[:min(len(ends), 5)] {
			if try(fmt.Sprintf("cut behind a record, at %d", end), w, manifest, cut(func(int64) int64 { return end })) == "" {
				t.Errorf("%s was cut, and nothing is said", manifest)
			}
		}
	}
	// The first blocks of a table have the rows that a start reads: those of the newest table while the store opens,
	// those of others after it has opened.
	for _, name := range stopped.storeFiles(t, "*.sst") {
		for _, at := range []int64{100, 8 << 10, 16 << 10, 21 << 10} {
			try(fmt.Sprintf("flipped, at %d", at), stopped, name, func(path string) error {
				b, err := os.ReadFile(path)
				if err == nil {
					b[at%int64(len(b))] ^= 1
					err = os.WriteFile(path, b, 0o600)
				}
				return err
			})
		}
	}
	t.Run("empty files skipped", func(t *testing.T) {
		dir := copyDir(t, stopped.dir, func(_ string, size int64) bool { return size == 0 })
		if said := stopped.outcome(t, dir, false); !strings.Contains(said, "marker.") {
			t.Errorf("want a marker to be missed, got %s", orServes(said))
		}
	})
	t.Run("whole copies", func(t *testing.T) {
		for _, w := range []written{stopped, killed} {
			if said := w.outcome(t, copyDir(t, w.dir, nil), false); said != "" {
				t.Error(said)
			}
		}
	})
	t.Logf("%d cases, %d complete", tried, complete)
}

// recordEnds returns where the records of a manifest end, but the last one.
func recordEnds(t *testing.T, path string) (ends []int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := record.NewReader(f, 0); ; {
		one, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, one)
		}
		if err != nil {
			return ends[:max(0, len(ends)-1)]
		}
		ends = append(ends, r.Offset())
	}
}

func orServes(said string) string {
	if said == "" {
		return "serves"
	}
	return strings.TrimSpace(said)
}

// TestLockRemoved: removing lock files, or the store's directory, lets no second server in.
func TestLockRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	p := start(t, dir)
	c := p.client(t)
	args := []string{"--listen-client-urls", "http://127.0.0.1:0", "--data-dir", dir}
	if err := os.Remove(filepath.Join(dir, storeDir, "LOCK")); err != nil {
		t.Fatal(err)
	}
	fails(t, nil, 1, "is in use by another process", args...)
	if err := put(t, c, "k", "v"); err != nil {
		t.Fatal(err)
	}
	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatal("exit code", code)
	}
	p = start(t, dir)
	if v := get(t, p.client(t), "k"); v != "v" {
		t.Errorf("after a start: %q", v)
	}
	// It would end when it sees that, within a second, and a second server that is slow to start would be let in.
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, storeDir)); err != nil {
		t.Fatal(err)
	}
	fails(t, nil, 1, "is in use by another process", args...)
}
