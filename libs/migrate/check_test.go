package migrate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

// fileOf returns the snapshot of puts, one a revision up to the last, as a source sends it.
func fileOf(t *testing.T, last int64, puts ...mvcc.KV) []byte {
	t.Helper()
	f, err := snapshot.WriteContent(t.Context(), &snapshot.Content{
		Revision: last, Compact: -1,
		Events: func(_ context.Context, visit func(int64, *revlog.Event) error) error {
			for i, kv := range puts {
				rev := last - int64(len(puts)-1-i)
				kv.Create, kv.Mod, kv.Version = rev, rev, 1
				if err := visit(rev, &revlog.Event{KV: kv}); err != nil {
					return err
				}
			}
			return nil
		},
	}, snapshot.Options{Dir: t.TempDir(), Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f.Summed())
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// checked checks such a snapshot.
func checked(t *testing.T, last int64, puts ...mvcc.KV) *Checked {
	t.Helper()
	name := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(name, fileOf(t, last, puts...), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := snapshot.Open(t.Context(), name, false)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Check(t.Context(), r, DefaultRoot)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCheckPods: what only pods could not hold is named as such, at most so much of it, and the age of the database
// that the revision needs is a note.
func TestCheckPods(t *testing.T) {
	small := mvcc.KV{Key: []byte("small"), Value: []byte("v")}
	if c := checked(t, 9, small); len(c.Findings)+len(c.OnPods)+len(c.Notes) != 0 {
		t.Errorf("a small one: %+v", c)
	}
	long := mvcc.KV{Key: bytes.Repeat([]byte("k"), 10_000)}
	c := checked(t, 1<<40, append(slices.Repeat([]mvcc.KV{long}, findingsMax+3), small)...)
	if len(c.Findings) != 0 || len(c.OnPods) != findingsMax || c.MoreOnPods != 3 {
		t.Fatalf("%d findings, %d on pods and %d more", len(c.Findings), len(c.OnPods), c.MoreOnPods)
	}
	first := c.OnPods[0]
	if !strings.Contains(first, "in revision 1099511627753: ") || !strings.Contains(first, "kkk") {
		t.Error("it is not named:", first)
	}
	// A database makes a million versions a second, each with 32 revisions.
	if len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "9h32m0s old, or was advanced to version 34359738368") {
		t.Errorf("notes: %q", c.Notes)
	}
}
