package pebble

import (
	"bytes"
	"testing"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestWindow: the window keeps what is within its bounds, says when it does not have what is asked for, and frees
// what it drops.
func TestWindow(t *testing.T) {
	freed := 0
	w := window{commitsMax: 3, bytesMax: 100}
	add := func(seq uint64, size int) {
		w.add(&writeSet{seq: seq, repr: make([]byte, size), free: func() { freed++ }})
	}
	want := func(since uint64, n int, ok bool) {
		t.Helper()
		sets, got := w.since(since)
		if len(sets) != n || got != ok {
			t.Errorf("since(%d) = %d sets, %v; want %d, %v", since, len(sets), got, n, ok)
		}
	}
	want(0, 0, true)
	add(1, 10)
	add(2, 10)
	add(3, 10)
	want(0, 3, true)
	want(2, 1, true)
	want(3, 0, true)
	add(4, 10) // too many
	want(0, 0, false)
	want(1, 3, true)
	add(5, 95) // too large
	want(3, 0, false)
	want(4, 1, true)
	add(6, 200) // alone it is kept
	want(4, 0, false)
	want(5, 1, true)
	w.prune(6)
	want(6, 0, true)
	w.skip(9)
	want(8, 0, false)
	want(9, 0, true)
	if freed != 6 || w.bytes != 0 {
		t.Errorf("%d sets freed, %d bytes left", freed, w.bytes)
	}
}

func TestWriteSet(t *testing.T) {
	db, err := pdb.Open("", &pdb.Options{FS: vfs.NewMem(), Logger: discard{}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b := db.NewBatch()
	defer b.Close()
	for _, k := range []string{"m", "c", "x"} {
		_ = b.Set([]byte(k), []byte("v"), nil)
	}
	_ = b.Delete([]byte("e"), nil)
	_ = b.DeleteRange([]byte("p"), []byte("r"), nil)
	w := &writeSet{repr: b.Repr()}
	for _, test := range []struct {
		begin, end string // end "": a point
		want       bool
	}{
		{"c", "", true},
		{"d", "", false},
		{"e", "", true},
		{"m", "", true},
		{"m\x00", "", false},
		{"p", "", true},
		{"q", "", true},
		{"r", "", false},
		{"x", "", true},
		{"a", "c", false},
		{"a", "c\x00", true},
		{"d", "e", false},
		{"e", "f", true},
		{"n", "p", false},
		{"n", "p\x00", true},
		{"q", "q\x00", true},
		{"r", "x", false},
		{"y", "z", false},
		{"x", "c", false},
		{"q", "q", false},
	} {
		r := readSet{points: [][]byte{[]byte(test.begin)}}
		if test.end != "" {
			r = readSet{ranges: []span{{[]byte(test.begin), []byte(test.end)}}}
		}
		if got := w.hits(&r); got != test.want {
			t.Errorf("%q … %q: %v, want %v", test.begin, test.end, got, test.want)
		}
	}
}

// TestArena: copies stay as they are until release, whatever their size.
func TestArena(t *testing.T) {
	for range 3 {
		var a arena
		var want, got [][]byte
		for i := range 2000 {
			b := bytes.Repeat([]byte{byte(i)}, i*i%9000)
			want, got = append(want, b), append(got, a.copy(b))
		}
		for i := range want {
			if got[i] == nil || !bytes.Equal(want[i], got[i]) || len(got[i]) != cap(got[i]) &&
				len(got[i]) <= chunkBytes/8 {
				t.Fatalf("copy %d of %d bytes: %d bytes, capacity %d", i, len(want[i]), len(got[i]), cap(got[i]))
			}
		}
		a.release()
	}
}

func TestVarintLen(t *testing.T) {
	for n, want := range map[int]int{
		0: 1, 1: 1, 127: 1, 128: 2, 16383: 2, 16384: 3, 1 << 21: 4, 1<<28 - 1: 4, 1 << 28: 5,
	} {
		if got := varintLen(n); got != want {
			t.Errorf("varintLen(%d) = %d, want %d", n, got, want)
		}
	}
}

// TestSeekParallel: spread over goroutines, lookups find the same.
func TestSeekParallel(t *testing.T) {
	s, err := Open("data", small(Options{FS: vfs.NewMem()}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var keys [][]byte
	for i := range 100 {
		k := incompressible(i, 6)
		keys = append(keys, k)
		if i%3 > 0 {
			if err := put(s, string(k), incompressible(i, i*50)); err != nil {
				t.Fatal(err)
			}
		}
	}
	v := s.durableView()
	r := &snapshot{}
	r.init(v)
	defer r.Close()
	rows := rowsOf(keys)
	values := make([][]byte, len(rows))
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	if err := r.seekParallel(rows, values, order); err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		if (values[i] != nil) != (i%3 > 0) || i%3 > 0 && !bytes.Equal(values[i], incompressible(i, i*50)) {
			t.Errorf("row %d: %d bytes", i, len(values[i]))
		}
	}
}
