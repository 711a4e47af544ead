package snapshot_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/snapshot"
	"github.com/headwaterdb/headwater/libs/snapshot/datadir"
)

// sumLen is the length of the sum at the end.
const sumLen = sha256.Size

// edit changes a file's database with bbolt and puts the right sum behind it.
func edit(t *testing.T, path string, change func(tx *bolt.Tx) error) {
	t.Helper()
	st, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, st.Size()-sumLen)
	}
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	if err := os.WriteFile(path, append(b, sum[:]...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// withRow sets a row of the database.
func withRow(bucket, key, value string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		edit(t, path, func(tx *bolt.Tx) error {
			return tx.Bucket([]byte(bucket)).Put([]byte(key), []byte(value))
		})
	}
}

func bytesOf(change func(b []byte) []byte) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, change(b), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

const aRevision = "\x00\x00\x00\x00\x00\x00\x00\x09_\x00\x00\x00\x00\x00\x00\x00\x00"

// damages are files that are no snapshot, or no longer one.
var damages = map[string]struct {
	change func(t *testing.T, path string)
	want   error
	skip   bool // the sum is not looked at
}{
	"a byte is another":  {change: bytesOf(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), want: snapshot.ErrDamaged},
	"the sum is another": {change: bytesOf(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), want: snapshot.ErrDamaged},
	"cut at a page":      {change: bytesOf(func(b []byte) []byte { return b[:8192] }), want: snapshot.ErrNoSum},
	"cut anywhere":       {change: bytesOf(func(b []byte) []byte { return b[:9999] }), want: snapshot.ErrForeign},
	"cut behind a sum":   {change: bytesOf(func(b []byte) []byte { return b[:8192+sumLen] }), want: snapshot.ErrDamaged},
	"longer":             {change: bytesOf(func(b []byte) []byte { return append(b, 1) }), want: snapshot.ErrForeign},
	"empty":              {change: bytesOf(func([]byte) []byte { return nil }), want: snapshot.ErrForeign},
	"text":               {change: bytesOf(func([]byte) []byte { return []byte("hello") }), want: snapshot.ErrForeign},
	"text, unchecked":    {change: bytesOf(func([]byte) []byte { return []byte(strings.Repeat("hello", 9999)) }), want: snapshot.ErrForeign, skip: true},
	"cut, unchecked":     {change: bytesOf(func(b []byte) []byte { return b[:8192] }), want: snapshot.ErrDamaged, skip: true},
	"zeros, unchecked":   {change: bytesOf(func(b []byte) []byte { clear(b[8192:]); return b }), want: snapshot.ErrDamaged, skip: true},
	"other pages":        {change: bytesOf(func(b []byte) []byte { copy(b[8192:], b[12288:]); return b }), want: snapshot.ErrDamaged, skip: true},
	"no bucket of keys": {change: func(t *testing.T, path string) {
		edit(t, path, func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("key")) })
	}, want: snapshot.ErrForeign},
	"no revision":            {change: withRow("key", "k", "v"), want: snapshot.ErrDamaged},
	"no version":             {change: withRow("key", aRevision, "v"), want: snapshot.ErrDamaged},
	"a version of another":   {change: withRow("key", aRevision, "\x0a\x01k\x10\x01\x18\x01\x20\x01"), want: snapshot.ErrDamaged},
	"no lease":               {change: withRow("lease", "12345678", "x"), want: snapshot.ErrDamaged},
	"no compact revision":    {change: withRow("meta", "finishedCompactRev", "x"), want: snapshot.ErrDamaged},
	"a user of another name": {change: withRow("authUsers", "u", "\x0a\x01v"), want: snapshot.ErrDamaged},
	"a role of another name": {change: withRow("authRoles", "r", "\x0a\x01v"), want: snapshot.ErrDamaged},
	"enabled or not":         {change: withRow("auth", "authEnabled", "\x02"), want: snapshot.ErrDamaged},
	"no auth revision":       {change: withRow("auth", "authRevision", "\xff\xff\xff\xff\xff\xff\xff\xff"), want: snapshot.ErrDamaged},
	"a user that is no one":  {change: withRow("authUsers", "u", "\xff"), want: snapshot.ErrDamaged},
}

func smallFile(t *testing.T) string {
	t.Helper()
	s := open(t, dense(t))
	for i := range 200 {
		p := &mvcc.PutRequest{Key: fmt.Appendf(nil, "%d", i%100), Value: make([]byte, 100)}
		if _, err := s.Put(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.LeaseGrant(t.Context(), 7, 60, nil); err != nil {
		t.Fatal(err)
	}
	return save(t, s, 0)
}

// TestDamagedFiles: whatever is wrong with a file is said in one line, and nothing is made of it.
func TestDamagedFiles(t *testing.T) {
	good, err := os.ReadFile(smallFile(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range damages {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			d.change(t, path)
			dir := filepath.Join(t.TempDir(), "data")
			err := restoreInto(t.Context(), path, dir, d.skip)
			if !errors.Is(err, d.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want %v", err, d.want)
			}
			nothingIn(t, dir)
		})
	}
}

// TestAnyDamage: wherever a file is damaged, it is refused, or nothing is wrong with what is made of it.
func TestAnyDamage(t *testing.T) {
	path := smallFile(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed(t), 0))
	for range 150 {
		bad := append([]byte{}, good...)
		for range 1 + r.IntN(4) {
			at := r.IntN(len(bad))
			for i := range min(1+r.IntN(16), len(bad)-at) {
				bad[at+i] = byte(r.Uint32())
			}
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := snapshot.Open(t.Context(), path, true)
		if err != nil {
			continue
		}
		_, err = f.Status(t.Context())
		if err != nil && !errors.Is(err, snapshot.ErrDamaged) {
			t.Error(err)
		}
		if err := f.Close(); err != nil && !errors.Is(err, snapshot.ErrDamaged) {
			t.Error(err)
		}
	}
}

func restoreInto(ctx context.Context, path, dir string, skip bool) error {
	r, err := snapshot.Open(ctx, path, skip)
	if err != nil {
		return err
	}
	_, err = datadir.Restore(ctx, r, dir, snapshot.RestoreOptions{})
	return errors.Join(err, r.Close())
}

// nothingIn checks that a directory has no store, nor part of one.
func nothingIn(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{datadir.Store, datadir.Restoring} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
}
