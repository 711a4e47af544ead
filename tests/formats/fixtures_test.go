package formats

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

var writeFlag = flag.Bool("write-fixtures", false, "let the previous release write the fixtures of testdata anew")

// Names of the fixtures.
const (
	standaloneFixture = "standalone-format1"
	keyspaceFixture   = "keyspace-format1"
)

// TestWriteFixtures writes the fixtures with -write-fixtures, and is skipped otherwise.
func TestWriteFixtures(t *testing.T) {
	if !*writeFlag {
		t.Skip("SKIPPED: it writes the fixtures, and runs only with -write-fixtures")
	}
	t.Run("standalone", func(t *testing.T) {
		s := hw.Run(t, oldStandalone(t), t.TempDir(), "--disk-reserve-bytes=-1")
		writeFixture(t, standaloneFixture, client(t, s.Endpoint()), func() *clientv3.Client {
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			pack(t, s.DataDir(), standaloneFixture)
			return client(t, start(t, s).Endpoint())
		})
	})
	t.Run("keyspace", func(t *testing.T) {
		e, err := pebble.Open("store", testengine.PebbleOptions(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		s := start(t, deploy(t, e, []string{"a"}).process("a", oldPods(t)))
		writeFixture(t, keyspaceFixture, client(t, s.Endpoint()), func() *clientv3.Client {
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := dump(t.Context(), e, filepath.Join("testdata", keyspaceFixture+".rows.gz")); err != nil {
				t.Fatal(err)
			}
			return client(t, start(t, s).Endpoint())
		})
	})
}

// writeFixture runs the script on a server of the previous release, and writes its answers. save stores the server's
// data, restarts it and returns a client.
func writeFixture(t *testing.T, name string, c *clientv3.Client, save func() *clientv3.Client) {
	t.Helper()
	ctx := limited(t)
	s := &script{ctx: ctx, c: c}
	from := s.first()
	if s.err != nil {
		t.Fatal(s.err)
	}
	p, err := take(ctx, c, from, s.last, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := golden{written: p.lines()}
	if g.changed, g.compacted, err = goOn(ctx, save(), from); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	g.write(t, name)
}
