package backup_test

import (
	"context"
	"io"
	"runtime"
	"testing"

	"github.com/headwaterdb/headwater/libs/backup"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

// looking is a place that looks at something whenever it is called.
type looking struct {
	backup.Dir
	look func()
}

// Put implements backup.Place.
func (p looking) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	p.look()
	return p.Dir.Put(ctx, name, r, size)
}

// Open implements backup.Place.
func (p looking) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	p.look()
	return p.Dir.Open(ctx, name)
}

// TestKilledLeavesNothing: at no moment has a temporary file a name, since one that a killed process leaves would have
// in it what is encrypted in the place.
func TestKilledLeavesNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("open files have names")
	}
	tmp, now, looks := t.TempDir(), clock(), 0
	look := func() { empty(t, tmp); looks++ }
	k := open(t, false)
	k.sent = look
	r := backup.NewRepository(looking{backup.Dir(t.TempDir()), look}, backup.Keys{}, tmp)
	for _, kind := range []string{backup.Full, backup.Log, backup.Log} {
		if _, err := k.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Take(t.Context(), k, "", kind, now); err != nil {
			t.Fatal(err)
		}
	}
	p, err := r.Plan(t.Context(), backup.Target{})
	if err != nil || len(p.Chain) != 3 {
		t.Fatalf("%+v, %v", p, err)
	}
	err = r.Restore(t.Context(), p, func(ctx context.Context, c *snapshot.Content) error {
		look()
		_, err := snapshot.RestoreContent(ctx, c, engineOf(t, false), snapshot.RestoreOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range p.Chain {
		if _, err := r.Verify(t.Context(), p.Chain, m); err != nil {
			t.Error(err)
		}
	}
	if empty(t, tmp); looks < 3*4+4+3 {
		t.Errorf("%d moments were looked at", looks)
	}
}
