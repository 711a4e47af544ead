package mvcc_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestPodFit: what is said of pods without a database is what a Store there says: the longest key, with zero bytes and
// without, and the largest value are the same.
func TestPodFit(t *testing.T) {
	const root = "headwater"
	e := faults.New(openFDBLike(t), faults.Options{Remote: &faults.Remote{RootBytes: len(root)}})
	s := open(t, e, mvcc.Options{Prefix: []byte("\x01\x08rest1234")})
	fit := mvcc.NewPodFit(root)
	longest := func(holds func(n int) bool) int {
		low, high := 0, 12<<20 // holds(low) and not holds(high)
		for low+1 < high {
			if mid := (low + high) / 2; holds(mid) {
				low = mid
			} else {
				high = mid
			}
		}
		return low
	}
	for name, version := range map[string]func(n int) (key, value []byte){
		"key":    func(n int) ([]byte, []byte) { return bytes.Repeat([]byte("k"), n), nil },
		"zeroes": func(n int) ([]byte, []byte) { return bytes.Repeat([]byte{0}, n), nil },
		"value":  func(n int) ([]byte, []byte) { return []byte("k"), bytes.Repeat([]byte("v"), n) },
		"both are long": func(n int) ([]byte, []byte) {
			return bytes.Repeat([]byte("k"), 9000), bytes.Repeat([]byte("v"), n)
		},
	} {
		there := longest(func(n int) bool {
			key, value := version(n)
			return s.Fits(&mvcc.PutRequest{Key: key, Value: value})
		})
		told := longest(func(n int) bool { key, value := version(n); return fit.Refuse(key, value) == nil })
		if told != there || told < 1000 {
			t.Errorf("%s: %d bytes are possible, and %d are said to be", name, there, told)
		}
	}
	if err := fit.Refuse(bytes.Repeat([]byte("k"), 10_000), nil); !errors.Is(err, mvcc.ErrTooLarge) {
		t.Error(err)
	}
}
