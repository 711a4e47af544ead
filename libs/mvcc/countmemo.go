package mvcc

import "sync"

// Bounds of the memo: how many lists under way it remembers, and the bytes of keys that a list worth remembering has.
const (
	countMemoMax      = 4096
	countMemoKeyBytes = 4 << 10
)

// countMemo remembers how many keys a list has left after its last page: (revision, next key, end) → count. The
// content of a revision never changes, so an entry is never wrong. It is dropped only for space, the oldest first.
type countMemo struct {
	mu   sync.Mutex
	left map[countKey]int64
	ring []countKey
	next int
}

type countKey struct {
	rev      int64
	key, end string
}

func (m *countMemo) get(rev int64, key, end []byte) (int64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.left[countKey{rev, string(key), string(end)}]
	return n, ok
}

func (m *countMemo) put(rev int64, key, end []byte, left int64) {
	if len(key)+len(end) > countMemoKeyBytes {
		return
	}
	k := countKey{rev, string(key), string(end)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == nil {
		m.left = make(map[countKey]int64)
	}
	if _, ok := m.left[k]; !ok {
		if len(m.ring) < countMemoMax {
			m.ring = append(m.ring, k)
		} else {
			delete(m.left, m.ring[m.next])
			m.ring[m.next] = k
			m.next = (m.next + 1) % countMemoMax
		}
	}
	m.left[k] = left
}
