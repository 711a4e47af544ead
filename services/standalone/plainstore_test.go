package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// plainEnv names a binary of a release that has a ledger and no value files: TestWritePlainStore lets it write the
// fixtures again. They hold plainKeys keys as those of format1.
const plainEnv, plainKeys = "HEADWATER_TEST_PLAIN", 40

// TestWritePlainStore writes testdata/plain-stopped.tar.gz and plain-killed.tar.gz.
func TestWritePlainStore(t *testing.T) {
	old := os.Getenv(plainEnv)
	if old == "" {
		t.Skip("the fixtures are there; " + plainEnv + " names the binary that writes them")
	}
	defer func(p string) { program = p }(program)
	program = old
	writeFixtures(t, "plain", plainKeys)
}

// TestPlainStore: directories of the previous release, which knew no value files, are opened, go on, and get none until
// --value-files says so, or all features are activated and --value-files=false does not speak against it; then new
// large values go there for good, and the ledger keeps that release out.
func TestPlainStore(t *testing.T) {
	const all, off = "--activate-features=all", "--value-files=false"
	for name, starts := range map[string][][]string{
		"stopped": {nil, {all, off}, {"--value-files"}, nil},
		"killed":  {nil, {off}, {all}, {off}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, filepath.Join("testdata", "plain-"+name+".tar.gz"))
			for i, args := range starts {
				p := start(t, dir, args...)
				c := p.client(t)
				for i := range plainKeys {
					if get(t, c, fmt.Sprintf("f%05d", i)) != format1Value(i) {
						t.Fatalf("key %d is not what was put", i)
					}
				}
				for j := range i {
					if get(t, c, fmt.Sprintf("new%d", j)) != format1Value(j) {
						t.Fatalf("what start %d has put is not there", j)
					}
				}
				if err := put(t, c, fmt.Sprintf("new%d", i), format1Value(i)); err != nil {
					t.Fatal(err)
				}
				_ = c.Close()
				p.stop(t, []os.Signal{syscall.SIGTERM, syscall.SIGKILL}[i%2])
				names, _ := filepath.Glob(filepath.Join(dir, storeDir, "*.values"))
				b, err := os.ReadFile(filepath.Join(dir, storeDir, "LEDGER"))
				if err != nil {
					t.Fatal(err)
				}
				version := "1"
				if i > 1 {
					version = "2"
				}
				if !strings.HasPrefix(string(b), "0 headwater-ledger "+version+" ") || (len(names) > 0) != (i > 1) {
					t.Errorf("start %d: value files %q, and the ledger begins with %.30q", i, names, b)
				}
			}
		})
	}
}
