package datadir_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/snapshot"
	"github.com/headwaterdb/headwater/libs/snapshot/datadir"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const keys = 25_000 // more than one transaction, and more than one look at progress

// file makes a snapshot.
func file(t *testing.T) string {
	t.Helper()
	e, err := pebble.Open("store", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := mvcc.Open(t.Context(), e, mvcc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < keys; {
		r := &mvcc.TxnRequest{}
		for range 1000 {
			r.Success = append(r.Success,
				mvcc.Op{Put: &mvcc.PutRequest{Key: fmt.Append(nil, i), Value: make([]byte, 10)}})
			i++
		}
		if _, err := s.Txn(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	d, err := s.BeginDump(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := snapshot.Write(t.Context(), d, snapshot.Options{Dir: t.TempDir(), Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f.Reader())
	if err := errors.Join(err, f.Close(), d.Close(), s.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, append(b, sum[:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func restore(ctx context.Context, path, dir string, progress func(int64)) error {
	r, err := snapshot.Open(ctx, path, false)
	if err != nil {
		return err
	}
	_, err = datadir.Restore(ctx, r, dir, snapshot.RestoreOptions{Progress: progress})
	return errors.Join(err, r.Close())
}

// TestInterrupted: a restore that is interrupted leaves no store, a server refuses what one that was killed leaves, and
// it can be repeated.
func TestInterrupted(t *testing.T) {
	path, dir := file(t), filepath.Join(t.TempDir(), "data")
	for _, at := range []int64{10_000, 20_000, keys} {
		ctx, cancel := context.WithCancel(t.Context())
		err := restore(ctx, path, dir, func(n int64) {
			if n == at {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("ended at %d: %v", at, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "store*")); err != nil || len(left) > 0 {
			t.Fatalf("%v is left, %v", left, err)
		}
	}
	// What a killed one leaves.
	if err := os.MkdirAll(filepath.Join(dir, datadir.Restoring, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := datadir.Check(dir); err == nil {
		t.Error("a server would begin a store of its own")
	}
	if err := restore(t.Context(), path, dir, nil); err != nil {
		t.Fatal(err)
	}
	if err := datadir.Check(dir); err != nil {
		t.Error(err)
	}
	if err := restore(t.Context(), path, dir, nil); err == nil {
		t.Error("a store is overwritten")
	}
	e, err := pebble.Open(filepath.Join(dir, datadir.Store), pebble.Options{
		ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := mvcc.Open(t.Context(), e, mvcc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Range(t.Context(), &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, CountOnly: true}, nil)
	if err != nil || info.Count != keys || info.Rev != 1+keys/1000 {
		t.Errorf("%+v, %v", info, err)
	}
	if err := errors.Join(s.Close(), e.Close()); err != nil {
		t.Error(err)
	}
}

// TestForeignDirectory: the data of an etcd is not touched.
func TestForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "member"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := datadir.Check(dir); err == nil {
		t.Error("an etcd's directory is served")
	}
	if err := restore(t.Context(), file(t), dir, nil); err == nil {
		t.Error("an etcd's directory is written to")
	}
}
