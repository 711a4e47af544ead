package formats

import (
	"context"
	"encoding/binary"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

const activateAll = "--activate-features=all"

// TestStandalone: this release serves a data directory of format 1 as the previous release does, with the directory's
// own features and with all features. Until features are activated the previous release can serve it too.
func TestStandalone(t *testing.T) {
	for name, flags := range map[string][]string{"as it is": nil, "activated": {activateAll}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := hw.Run(t, hw.Headwater(t), unpack(t, standaloneFixture), flags...)
			g := readGolden(t, standaloneFixture)
			g.check(t, client(t, s.Endpoint()))
			// Activated features stay active.
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			again := hw.Run(t, hw.Headwater(t), s.DataDir())
			g.checkCompacted(t, client(t, again.Endpoint()))
			if err := again.Stop(); err != nil {
				t.Fatal(err)
			}
			checkRows(t, s.DataDir(), flags != nil)
		})
	}
}

// checkRows looks at the rows of a stopped server: nothing of format 1 is left where features were activated, and the
// counters of live bytes and of keys are the sums of the tables that docs/formats.md names.
func checkRows(t *testing.T, dataDir string, activated bool) {
	t.Helper()
	e, err := pebble.Open(filepath.Join(dataDir, "store"), pebble.Options{
		ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	var live int64
	heads := 0
	var counter []byte
	var index countIndex
	err = visit(t.Context(), e, engine.Range{}, func(key, value []byte) {
		index.add(key, value)
		switch {
		case strings.ContainsRune("ehiklv", rune(key[0])):
			live += int64(len(key) + len(value))
		case key[0] == 'd':
			if heads++; (len(value) != engine.StampLen) != activated {
				t.Errorf("the head has %d bytes", len(value))
			}
		case string(key) == "mlive":
			counter = append(counter, value...)
		}
	})
	if err != nil || heads != 1 {
		t.Fatal(heads, err)
	}
	old, err := rowsOf(t.Context(), e, nil, 'v', oldValue)
	if err != nil || (old == 0) != activated {
		t.Errorf("%d rows of values of format 1, %v", old, err)
	}
	if !activated {
		return
	}
	if len(counter) != 8 || int64(binary.LittleEndian.Uint64(counter)) != live {
		t.Errorf("the counter of live bytes is %x, the rows have %d", counter, live)
	}
	index.check(t)
}

// countIndex is what the rows say about the number of keys.
type countIndex struct {
	keys, counted, buckets int64
	begun                  bool // not all buckets have been counted yet
}

func (c *countIndex) add(key, value []byte) {
	switch key[0] {
	case 'i':
		c.keys++
	case 'b':
		c.buckets++
		c.begun = c.begun || value[0] == 4
	case 'n':
		c.counted += int64(binary.LittleEndian.Uint64(value))
	}
}

func (c *countIndex) check(t *testing.T) {
	t.Helper()
	if c.buckets == 0 || !c.begun && c.counted != c.keys {
		t.Errorf("the counters of %d buckets say %d, there are %d keys", c.buckets, c.counted, c.keys)
	}
}

// TestRollBack: until features are activated, the previous release can go on with data that this release has written.
func TestRollBack(t *testing.T) {
	t.Parallel()
	old := oldStandalone(t)
	g := readGolden(t, standaloneFixture)
	s := hw.Run(t, hw.Headwater(t), unpack(t, standaloneFixture))
	g.check(t, client(t, s.Endpoint()))
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	back := hw.Run(t, old, s.DataDir())
	c := client(t, back.Endpoint())
	g.checkCompacted(t, c)
	if _, err := c.Put(limited(t), "back", "again"); err != nil {
		t.Error(err)
	}
}

// TestRefused: the previous release says in one line that it cannot read data with new features, and leaves the data
// unchanged.
func TestRefused(t *testing.T) {
	t.Parallel()
	old := oldStandalone(t)
	const format, ledger = "format 2, this version knows 1", "unknown to this version"
	for _, c := range []struct{ name, dir, flag, want string }{
		{"values-once", unpack(t, standaloneFixture), "--activate-features=values-once", format},
		{"exact-sizes", unpack(t, standaloneFixture), "--activate-features=exact-sizes", format},
		{"count-index", unpack(t, standaloneFixture), "--activate-features=count-index", format},
		{"count-fences", unpack(t, standaloneFixture), "--activate-features=count-fences", format},
		{"lease-steps", unpack(t, standaloneFixture), "--activate-features=lease-steps", format},
		{"all", unpack(t, standaloneFixture), activateAll, ledger},
		{"new", t.TempDir(), "--activate-features=", ledger},
	} {
		s := hw.Run(t, hw.Headwater(t), c.dir, c.flag)
		if _, err := client(t, s.Endpoint()).AlarmDisarm(limited(t), noAlarm); err != nil {
			t.Fatal(err)
		}
		put, err := client(t, s.Endpoint()).Put(limited(t), "k", strings.Repeat("v", middle))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		at := hw.Layout{DataDir: c.dir, ClientURL: "http://127.0.0.1:0"}
		said := refusal(t, old.Path, append(old.Args(at), "--log-level=error")...)
		if !strings.Contains(said, c.want) {
			t.Errorf("%s: the previous release answers %q", c.name, said)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		r, err := client(t, s.Endpoint()).Get(limited(t), "k")
		if err != nil || len(r.Kvs) != 1 || r.Kvs[0].ModRevision != put.Header.Revision ||
			len(r.Kvs[0].Value) != middle {
			t.Errorf("%s: afterwards %v, %v", c.name, r, err)
		}
	}
}

// refusal runs a program that must fail by itself, and returns the one line that it prints.
func refusal(t *testing.T, path string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Errorf("the command does not refuse: %v, %s", err, out)
	}
	if n := strings.Count(string(out), "\n"); n != 1 {
		t.Errorf("it says %d lines: %s", n, out)
	}
	return string(out)
}
