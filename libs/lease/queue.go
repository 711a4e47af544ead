package lease

import (
	"container/heap"
	"math"
	"sync"
)

// never is the due time of an empty queue.
const never instant = math.MaxInt64

// queue orders entries by the time at which they need attention. That time is a lower bound: a renewal moves the
// deadline without telling the queue, and an entry that is popped too early is put back (see table.expire).
type queue struct {
	mu    sync.Mutex
	items dueHeap
}

// put adds e, or moves it if it is queued, to be looked at when due. It reports whether e is now the first.
func (q *queue) put(e *entry, due instant) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.due = due
	if e.index >= 0 {
		heap.Fix(&q.items, e.index)
	} else {
		heap.Push(&q.items, e)
	}
	return e.index == 0
}

// remove takes e out of the queue if it is there.
func (q *queue) remove(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.index >= 0 {
		heap.Remove(&q.items, e.index)
	}
}

// pop removes and returns the first entry if it is due at now, else nil and the time at which the first will be.
func (q *queue) pop(now instant) (*entry, instant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return nil, never
	}
	if first := q.items[0]; first.due > now {
		return nil, first.due
	}
	return heap.Pop(&q.items).(*entry), 0
}

// fill replaces the content by entries, each due at its deadline. It is for the start, before any other access.
func (q *queue) fill(entries []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = entries
	for i, e := range q.items {
		e.due, e.index = e.deadline.Load(), i
	}
	heap.Init(&q.items)
}

// dueHeap implements heap.Interface and keeps each entry's index, so that an entry can be taken out of the middle.
type dueHeap []*entry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *dueHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
