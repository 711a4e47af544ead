package formats

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/release"
	"github.com/headwaterdb/headwater/tests/internal/remoteengine"
)

// deployment is processes with pods of all kinds, of this release and of the previous one, on one engine.
type deployment struct {
	t      *testing.T
	engine engine.Store
	dir    string
	names  []string
	extra  []string
}

// deploy prepares processes with the given names on an engine, which stays the caller's. extra is flags for all of
// them.
func deploy(t *testing.T, e engine.Store, names []string, extra ...string) *deployment {
	t.Helper()
	dir, err := os.MkdirTemp("", "hwformats") //nolint:usetesting // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := remoteengine.Serve(e, filepath.Join(dir, "engine"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &deployment{t: t, engine: e, dir: dir, names: names, extra: extra}
}

// oldPods and newPods are the program of tests/formats/pods as the previous release and this one build it.
func oldPods(tb testing.TB) string {
	tb.Helper()
	return release.Build(tb, release.Format1, "tests/formats/pods", release.Overlay{
		Dirs: []string{"tests/internal/remoteengine", "tests/formats/pods"}, Without: []string{"server.go"},
		Files: map[string]string{"tests/formats/pods/services.go": "tests/formats/testdata/format1/services.go"},
	})
}

func newPods(tb testing.TB) string {
	tb.Helper()
	return hw.Build(tb, "pods", "github.com/headwaterdb/headwater/tests/formats/pods")
}

// args makes the command line of the named process.
func (d *deployment) args(name string) func(hw.Layout) []string {
	return func(l hw.Layout) []string {
		return append([]string{
			filepath.Join(d.dir, "engine"), d.dir, name, strings.Join(d.names, ","),
			"--listen-client-urls=" + l.ClientURL, "--advertise-client-urls=" + l.ClientURL,
		}, d.extra...)
	}
}

// process prepares the named process, which runs the given program.
func (d *deployment) process(name, program string, extra ...string) *hw.Server {
	d.t.Helper()
	p := hw.Program{Name: "process " + name, Path: program, Ready: "all pods are ready", Args: d.args(name)}
	return hw.New(d.t, p, d.t.TempDir(), extra...)
}

func start(t *testing.T, s *hw.Server) *hw.Server {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// rowsOf counts the rows of a keyspace's table for which is returns true.
func rowsOf(
	ctx context.Context, e engine.Store, prefix []byte, table byte, is func(key, value []byte) bool,
) (n int, err error) {
	begin := append(append([]byte{}, prefix...), table)
	end := append(append([]byte{}, prefix...), table+1)
	err = visit(ctx, e, engine.Range{Begin: begin, End: end}, func(key, value []byte) {
		if is(key[len(begin):], value) {
			n++
		}
	})
	return n, err
}

// oldValue reports whether the key of a val row has format 1: nothing stands between the key's end and the number of
// the chunk.
func oldValue(key, _ []byte) bool {
	for i := 0; ; i++ {
		if key[i] == 0 {
			if i+1 < len(key) && key[i+1] == 0xff {
				i++
				continue
			}
			return len(key)-i-1 == 2
		}
	}
}
