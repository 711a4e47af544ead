package watch

import "math/bits"

// intervals is a treap of half-open ranges [start, end), ordered by (start, end) and augmented with the greatest end
// below each node; an empty end means no upper bound. stab finds the ranges that hold a key in O(log n + found).
// Not safe for concurrent use.
type intervals struct {
	root *ivNode
	seed uint64
}

type ivNode struct {
	start, end  string
	maxEnd      string // "" is the greatest
	prio        uint64
	left, right *ivNode
	groups      []*group
}

// endLess orders ends, "" last.
func endLess(a, b string) bool { return a != "" && (b == "" || a < b) }

func ivLess(s1, e1, s2, e2 string) bool { return s1 < s2 || s1 == s2 && endLess(e1, e2) }

func (n *ivNode) fix() {
	n.maxEnd = n.end
	for _, c := range [2]*ivNode{n.left, n.right} {
		if c != nil && endLess(n.maxEnd, c.maxEnd) {
			n.maxEnd = c.maxEnd
		}
	}
}

func (t *intervals) add(start, end string, g *group) {
	if n := t.find(start, end); n != nil {
		n.groups = append(n.groups, g)
		return
	}
	// Heap priorities only need to be spread; a counter through a mixing multiplication is deterministic and is.
	t.seed++
	hi, lo := bits.Mul64(t.seed*0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93)
	t.root = ivInsert(t.root, &ivNode{start: start, end: end, maxEnd: end, prio: hi ^ lo, groups: []*group{g}})
}

func (t *intervals) remove(start, end string, g *group) {
	n := t.find(start, end)
	if n == nil {
		return
	}
	if n.groups = removeGroup(n.groups, g); len(n.groups) == 0 {
		t.root = ivDelete(t.root, start, end)
	}
}

func (t *intervals) find(start, end string) *ivNode {
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

// stab appends to dst the groups of all ranges that hold key.
func (t *intervals) stab(key []byte, dst []*group) []*group { return ivStab(t.root, key, dst) }

func ivStab(n *ivNode, key []byte, dst []*group) []*group {
	if n == nil || n.maxEnd != "" && string(key) >= n.maxEnd {
		return dst
	}
	dst = ivStab(n.left, key, dst)
	if string(key) < n.start {
		return dst // all on the right start later still
	}
	if n.end == "" || string(key) < n.end {
		dst = append(dst, n.groups...)
	}
	return ivStab(n.right, key, dst)
}

func ivInsert(n, x *ivNode) *ivNode {
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

func ivDelete(n *ivNode, start, end string) *ivNode {
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
func ivMerge(a, b *ivNode) *ivNode {
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

func ivRotateRight(n *ivNode) *ivNode {
	l := n.left
	n.left, l.right = l.right, n
	n.fix()
	return l
}

func ivRotateLeft(n *ivNode) *ivNode {
	r := n.right
	n.right, r.left = r.left, n
	n.fix()
	return r
}
