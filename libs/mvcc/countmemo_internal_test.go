package mvcc

import (
	"bytes"
	"testing"
)

// Keys may be as large as a request: the memo must not hold 4,096 pairs of them.
func TestCountMemoIsBounded(t *testing.T) {
	var m countMemo
	large := bytes.Repeat([]byte("k"), countMemoKeyBytes)
	m.put(5, large, []byte("l"), 1)
	if _, ok := m.get(5, large, []byte("l")); ok {
		t.Error("a list with large keys is remembered")
	}
	m.put(5, []byte("k"), []byte("l"), 7)
	if n, ok := m.get(5, []byte("k"), []byte("l")); !ok || n != 7 {
		t.Errorf("%d, %v", n, ok)
	}
}
