package pebble

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// TestFrugal: while somebody is frugal the cache of blocks grows by as much as was said, whoever reads, also if several
// are; afterwards it grows again.
func TestFrugal(t *testing.T) {
	const rows, rowBytes, growth = 512, 32 << 10, 2 << 20
	most := int64(growth + 8*runtime.GOMAXPROCS(0)*rowBytes) // each part of the cache may have a block or two too many
	fs := vfs.NewMem()
	o := Options{FS: fs, CacheBytes: 64 << 20, MemTableBytes: 4 << 20}
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.NewChaCha8([32]byte{1})
	for i := range rows {
		v := make([]byte, rowBytes)
		r.Read(v)
		if err := put(s, fmt.Sprintf("k%03d", i), v); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open("data", o); err != nil { // with an empty cache
		t.Fatal(err)
	}
	read := func() int64 {
		t.Helper()
		snap, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		it := snap.Scan(t.Context(), engine.Range{Begin: []byte("k"), End: []byte("l")})
		n := 0
		for it.Next() {
			n++
		}
		if err := it.Close(); err != nil || n != rows {
			t.Fatalf("%d rows, %v", n, err)
		}
		return s.Stats().CacheBytes
	}
	before := s.Stats().CacheBytes
	release, other := s.Frugal(growth), s.Frugal(growth)
	if grown := read() - before; grown > most {
		t.Errorf("the cache grew by %d bytes", grown)
	}
	other()
	if grown := read() - before; grown > most {
		t.Errorf("with one of two released the cache grew by %d bytes", grown)
	}
	release()
	if grown := read() - before; grown < rows*rowBytes/2 {
		t.Errorf("afterwards the cache grew by %d bytes", grown)
	}
	last := s.Frugal(growth)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	last() // late, but harmless
}
