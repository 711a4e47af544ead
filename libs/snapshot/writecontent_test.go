package snapshot_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/headwaterdb/headwater/libs/snapshot"
)

// writeContent makes a file of content as it is sent.
func writeContent(t *testing.T, c *snapshot.Content) []byte {
	t.Helper()
	f, err := snapshot.WriteContent(t.Context(), c, snapshot.Options{Dir: t.TempDir(), Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f.Summed())
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWriteContent: a file that is made of another one's content restores the same keyspace, and is the same each time;
// a revision beyond the last event, and a compaction that has not ended, are in the file.
func TestWriteContent(t *testing.T) {
	seed := seed(t)
	for round := range uint64(3) {
		g := &traffic{Rand: rand.New(rand.NewPCG(seed, round)), s: open(t, dense(t))}
		for range 80 {
			g.step(t, round > 0)
		}
		file := save(t, g.s, 0)
		other, _ := restore(t, file, snapshot.RestoreOptions{})
		want := pictureOf(t, other)
		c, err := reader(t, file).Content(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b := writeContent(t, &c)
		if !bytes.Equal(b, writeContent(t, &c)) {
			t.Error("the same content has made two files")
		}
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, e := restore(t, path, snapshot.RestoreOptions{})
		same(t, "restored", want, pictureOf(t, s))
		clean(t, e)
		c.Revision += 5
		c.Superseded = c.Compact >= 0
		if err := os.WriteFile(path, writeContent(t, &c), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := reader(t, path); r.Revision != c.Revision || r.Compact != c.Compact || r.Superseded != c.Superseded {
			t.Errorf("revision %d of %d, compact %d of %d, superseded %t", r.Revision, c.Revision, r.Compact, c.Compact,
				r.Superseded)
		}
	}
}
