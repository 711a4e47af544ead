package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// TestPages: what is written page by page is a database to bbolt: it finds every row, its own check finds nothing, and
// rows can be deleted and added later, as etcd does.
func TestPages(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	sizes := []int{0, 1, 2, 3, 4, 5, 120, 121, 122, 123, 124, 1000, 12_000}
	for _, key := range []int{8, 40, 1200, 5000} {
		for _, n := range sizes {
			if n > 1000 && key > 40 {
				continue
			}
			want := map[string]map[string][]byte{"a": {}, "b": randomRows(r, n, key), "c": randomRows(r, 3, 8)}
			if err := pagesHold(t, r, want); err != nil {
				t.Fatalf("%d rows with keys of up to %d bytes: %v", n, key, err)
			}
		}
	}
}

func randomRows(r *rand.Rand, n, key int) map[string][]byte {
	rows := map[string][]byte{}
	for i := range n {
		k := fmt.Sprintf("%08d%0*d", r.IntN(1e8), r.IntN(key), i)
		size := r.IntN(100)
		switch r.IntN(200) {
		case 0:
			size = r.IntN(3 * pageSize)
		case 1, 2, 3:
			size = 1000 + r.IntN(100)
		}
		rows[k] = bytes.Repeat([]byte{byte(i)}, size)
	}
	return rows
}

func writePages(path string, all map[string]map[string][]byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	p := newPageWriter(f)
	var roots []bucketRoot
	for _, bucket := range slices.Sorted(maps.Keys(all)) {
		for _, k := range slices.Sorted(maps.Keys(all[bucket])) {
			v := all[bucket][k]
			if err := p.put(func(b []byte) ([]byte, int) { return append(append(b, k...), v...), len(k) }); err != nil {
				return err
			}
		}
		root, err := p.endBucket([]byte(bucket))
		if err != nil {
			return err
		}
		roots = append(roots, root)
	}
	err = p.finish(roots)
	st, statErr := f.Stat()
	if err := errors.Join(err, statErr, f.Close()); err != nil {
		return err
	}
	if st.Size() != p.size() {
		return fmt.Errorf("the file has %d bytes, not %d", st.Size(), p.size())
	}
	return nil
}

// pagesHold writes rows, and has bbolt read and change them.
func pagesHold(t *testing.T, r *rand.Rand, want map[string]map[string][]byte) error {
	path := filepath.Join(t.TempDir(), "db")
	if err := writePages(path, want); err != nil {
		return err
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.View(func(tx *bolt.Tx) error { return sameRows(tx, want) }); err != nil {
		return err
	}
	for range 2 {
		err := db.Update(func(tx *bolt.Tx) error {
			b, rows := tx.Bucket([]byte("b")), want["b"]
			for k := range rows {
				if r.IntN(3) > 0 {
					delete(rows, k)
					if err := b.Delete([]byte(k)); err != nil {
						return err
					}
				}
			}
			for k, v := range randomRows(r, 10, 20) {
				rows[k] = v
				if err := b.Put([]byte(k), v); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			err = db.View(func(tx *bolt.Tx) error { return sameRows(tx, want) })
		}
		if err != nil {
			return fmt.Errorf("after a change: %w", err)
		}
	}
	return nil
}

func sameRows(tx *bolt.Tx, want map[string]map[string][]byte) error {
	for err := range tx.Check() {
		return err
	}
	for bucket, rows := range want {
		n := 0
		err := tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
			if n++; !bytes.Equal(rows[string(k)], v) {
				return fmt.Errorf("%s: %q is not as it was written", bucket, k)
			}
			return nil
		})
		if err == nil && n != len(rows) {
			err = fmt.Errorf("%s has %d rows, not %d", bucket, n, len(rows))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestPagesOrder: rows that are out of order are refused.
func TestPagesOrder(t *testing.T) {
	f, err := TempFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer CloseTemp(f)
	p := newPageWriter(f)
	put := func(k string) error { return p.put(func(b []byte) ([]byte, int) { return append(b, k...), len(k) }) }
	if err := errors.Join(put("a"), put("b")); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"b", "a", ""} {
		if err := put(k); !errors.Is(err, errRowOrder) {
			t.Errorf("%q behind b: %v", k, err)
		}
	}
}
