package watch

import "math/bits"

// intervals is a treap of half-open ranges [start, end), ordered by (start, end) and augmented with the greatest end
// below each node; an empty end means no upper bound. stab finds the ranges that hold a key in O(log n + found).
// Not safe for concurrent use.
type intervals[T any] struct {
	root *ivNode[T]
	seed uint64
}

type ivNode[T any] struct {
	start, end  string
	maxEnd      string // "" is the greatest
	prio        uint64
	left, right *ivNode[T]
	value       *T
}

// endLess orders ends, "" last.
func endLess(a, b string) bool { return a != "" && (b == "" || a < b) }

func ivLess(s1, e1, s2, e2 string) bool { return s1 < s2 || s1 == s2 && endLess(e1, e2) }

func (n *ivNode[T]) fix() {
	n.maxEnd = n.end
	for _, c := range [2]*ivNode[T]{n.left, n.right} {
		if c != nil && endLess(n.maxEnd, c.maxEnd) {
			n.maxEnd = c.maxEnd
		}
	}
}

// get returns the value of the range, or nil.
func (t *intervals[T]) get(start, end string) *T {
	if n := t.find(start, end); n != nil {
		return n.value
	}
	return nil
}

func (t *intervals[T]) set(start, end string, v *T) {
	if n := t.find(start, end); n != nil {
		n.value = v
		return
	}
	// Heap priorities only need to be spread; a counter through a mixing multiplication is deterministic and is.
	t.seed++
	hi, lo := bits.Mul64(t.seed*0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93)
	t.root = ivInsert(t.root, &ivNode[T]{start: start, end: end, maxEnd: end, prio: hi ^ lo, value: v})
}

func (t *intervals[T]) remove(start, end string) { t.root = ivDelete(t.root, start, end) }

func (t *intervals[T]) find(start, end string) *ivNode[T] {
	n := t.root
	for n != nil && (n.start != start || n.end != end) {
		if ivLess(start, end, n.start, n.end) {
			n = n.left
		} else {
			n = n.right
		}
	}
	return n
}

// stab appends to dst the values of all ranges that hold key.
func (t *intervals[T]) stab(key []byte, dst []*T) []*T { return ivStab(t.root, key, dst) }

func ivStab[T any](n *ivNode[T], key []byte, dst []*T) []*T {
	if n == nil || n.maxEnd != "" && string(key) >= n.maxEnd {
		return dst
	}
	dst = ivStab(n.left, key, dst)
	if string(key) < n.start {
		return dst // all on the right start later still
	}
	if n.end == "" || string(key) < n.end {
		dst = append(dst, n.value)
	}
	return ivStab(n.right, key, dst)
}

func ivInsert[T any](n, x *ivNode[T]) *ivNode[T] {
	if n == nil {
		return x
	}
	if ivLess(x.start, x.end, n.start, n.end) {
		if n.left = ivInsert(n.left, x); n.left.prio > n.prio {
			n = ivRotateRight(n)
		}
	} else {
		if n.right = ivInsert(n.right, x); n.right.prio > n.prio {
			n = ivRotateLeft(n)
		}
	}
	n.fix()
	return n
}

func ivDelete[T any](n *ivNode[T], start, end string) *ivNode[T] {
	switch {
	case n == nil:
		return nil
	case n.start == start && n.end == end:
		return ivMerge(n.left, n.right)
	case ivLess(start, end, n.start, n.end):
		n.left = ivDelete(n.left, start, end)
	default:
		n.right = ivDelete(n.right, start, end)
	}
	n.fix()
	return n
}

// ivMerge joins two treaps, all of a before all of b.
func ivMerge[T any](a, b *ivNode[T]) *ivNode[T] {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.prio > b.prio:
		a.right = ivMerge(a.right, b)
		a.fix()
		return a
	default:
		b.left = ivMerge(a, b.left)
		b.fix()
		return b
	}
}

func ivRotateRight[T any](n *ivNode[T]) *ivNode[T] {
	l := n.left
	n.left, l.right = l.right, n
	n.fix()
	return l
}

func ivRotateLeft[T any](n *ivNode[T]) *ivNode[T] {
	r := n.right
	n.right, r.left = r.left, n
	n.fix()
	return r
}
