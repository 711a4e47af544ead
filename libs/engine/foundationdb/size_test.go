//go:build foundationdb

package foundationdb

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// TestRangeSize: the estimate is near what has been written, and knows where a range ends.
func TestRangeSize(t *testing.T) {
	s := openRoot(t)
	const rows, size = 1000, 10_000
	for i := 0; i < rows; {
		x := begin(t, s)
		for range 100 {
			x.Set(fmt.Appendf(nil, "a/%04d", i), make([]byte, size))
			i++
		}
		if _, err := wait(x); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(begin, end string, atLeast, atMost int64) {
		t.Helper()
		var to []byte
		if end != "" {
			to = []byte(end)
		}
		deadline := time.Now().Add(2 * time.Minute)
		for { // storage servers may be behind the commit
			n, err := s.RangeSize(t.Context(), []byte(begin), to)
			if err == nil && atLeast <= n && n <= atMost {
				return
			}
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%q to %q: %d %v, want %d to %d", begin, end, n, err, atLeast, atMost)
			}
		}
	}
	expect("a", "b", rows*size/2, rows*size*2)
	expect("", "", rows*size/2, rows*size*2)
	expect("b", "", 0, 0)
	expect("b", "a", 0, 0)
}

// TestRangeSizeUnreachable: nobody waits for a cluster that does not answer for longer than Timeout.
func TestRangeSizeUnreachable(t *testing.T) {
	s := unreachable(t, Options{Timeout: 50 * time.Millisecond})
	if _, err := s.RangeSize(t.Context(), nil, nil); !errors.Is(err, engine.ErrUnavailable) {
		t.Error(err)
	}
}
