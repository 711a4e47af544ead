package watch

import (
	"sort"
	"unsafe"
)

// fifo is a queue in one slice: push at the back, pop at the front, index from the front. Not safe for concurrent use.
type fifo[T any] struct {
	buf  []T
	head int
}

func (q *fifo[T]) len() int   { return len(q.buf) - q.head }
func (q *fifo[T]) push(v T)   { q.buf = append(q.buf, v) }
func (q *fifo[T]) at(i int) T { return q.buf[q.head+i] }
func (q *fifo[T]) last() T    { return q.buf[len(q.buf)-1] }

func (q *fifo[T]) pop() T {
	var zero T
	v := q.buf[q.head]
	q.buf[q.head] = zero
	q.head++
	switch {
	case q.head == len(q.buf):
		q.buf, q.head = q.buf[:0], 0
		if cap(q.buf) > q.keep() {
			q.buf = nil
		}
	case q.head > fifoShift && q.head > len(q.buf)/2:
		// Copy to a slice of the right size, so that a burst does not keep its memory.
		q.buf, q.head = append(make([]T, 0, 2*q.len()), q.buf[q.head:]...), 0
	}
	return v
}

// fifoKeepBytes is the size of the slice that an empty queue keeps; each stream has three queues.
const fifoKeepBytes = 512

// fifoShift is how many elements are popped at least before what is left is copied.
const fifoShift = 64

func (q *fifo[T]) keep() int {
	var one T
	return fifoKeepBytes / int(unsafe.Sizeof(one))
}

// search returns the first index for which f is true; f must be false, then true, along the queue.
func (q *fifo[T]) search(f func(T) bool) int {
	return sort.Search(q.len(), func(i int) bool { return f(q.at(i)) })
}
