package snapshots

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/libs/migrate"
)

// contents returns the keys of a server with their values and leases, and all leases.
func contents(t *testing.T, c *clientv3.Client) (p picture) {
	t.Helper()
	r, err := c.Get(t.Context(), "\x00", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		p.add("%q = %q on %x", kv.Key, kv.Value, kv.Lease)
	}
	p.leases(t.Context(), t, c)
	return p
}

// TestExportImport: keys of any bytes and leases are the same after an export from an etcd and an import into a
// headwater, and after the way back. An import refuses a file that was cut short.
func TestExportImport(t *testing.T) {
	seed := rand.Uint64N(1 << 32)
	t.Logf("seed %d", seed)
	first := dial(t, etcdOf(t, ""))
	fill(t, first, seed, false)
	want := contents(t, first)
	dir := t.TempDir()
	file := filepath.Join(dir, "lines")
	runCtl(t, "export", file, "--from", first.Endpoints()[0])
	second := dial(t, headwaterOf(t, ""))
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut")
	end := strings.LastIndex(strings.TrimSpace(string(whole)), "\n") + 1
	if err := os.WriteFile(cut, whole[:end], 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "import", cut, "--to", second.Endpoints()[0])
	if err := p.Wait(); err == nil || !strings.Contains(p.output(), "the last line is missing") {
		t.Errorf("a file that was cut: %v, %s", err, p.output())
	}
	for range 2 { // an import may be repeated
		t.Log(runCtl(t, "import", file, "--to", second.Endpoints()[0]))
		same(t, "after the import", want, contents(t, second))
	}
	third := dial(t, etcdOf(t, ""))
	t.Log(runCtl(t, "migrate", "--from", second.Endpoints()[0], "--to", third.Endpoints()[0]))
	same(t, "after the way back", want, contents(t, third))
	p = start(t, "migrate", "--from", second.Endpoints()[0], "--to", third.Endpoints()[0])
	if err := p.Wait(); err == nil || !strings.Contains(p.output(), "keys already") {
		t.Errorf("into an etcd with keys: %v, %s", err, p.output())
	}
}

// TestImportMany: an import that needs several transactions puts all keys, and says how many.
func TestImportMany(t *testing.T) {
	const n = 1500
	var b strings.Builder
	fmt.Fprintln(&b, `{"headwater_export":1,"revision":1}`)
	for i := range n {
		fmt.Fprintf(&b, `{"key":"k%04d","value":"%s"}`+"\n", i, strings.Repeat("v", 1500))
	}
	fmt.Fprintf(&b, `{"keys":%d}`+"\n", n)
	c := dial(t, headwaterOf(t, ""))
	told := int64(0)
	done, err := migrate.Import(t.Context(), c, strings.NewReader(b.String()), func(keys int64) { told = keys })
	if err != nil || done.Keys != n || told != n {
		t.Fatalf("%+v, %v, told %d", done, err, told)
	}
	keys, err := migrate.NewSource(c).Export(t.Context(), io.Discard, migrate.ExportOptions{Prefix: []byte("k00")})
	if err != nil || keys != 100 {
		t.Errorf("exported %d keys, %v", keys, err)
	}
}
