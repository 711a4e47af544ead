package watch

import (
	"bytes"
	"strings"
)

// radix is a compact radix tree from prefixes to values: walk visits the values of all prefixes of a key. A step costs
// one search of the children's first bytes, which lie together, and one child. Not safe for concurrent use.
type radix[T any] struct{ root radixNode[T] }

type radixNode[T any] struct {
	label string
	value *T
	kids  *radixKids[T] // nil for a leaf
}

// radixKids are the children of a node, in no order: first[i] is the first byte of node[i].label.
type radixKids[T any] struct {
	first []byte
	node  []*radixNode[T]
}

// child returns the child whose label begins with c and its index, or nil.
func (n *radixNode[T]) child(c byte) (*radixNode[T], int) {
	if n.kids == nil {
		return nil, -1
	}
	i := bytes.IndexByte(n.kids.first, c)
	if i < 0 {
		return nil, -1
	}
	return n.kids.node[i], i
}

func (n *radixNode[T]) addChild(c *radixNode[T]) {
	if n.kids == nil {
		n.kids = &radixKids[T]{}
	}
	n.kids.first = append(n.kids.first, c.label[0])
	n.kids.node = append(n.kids.node, c)
}

func (n *radixNode[T]) removeChild(i int) {
	k := n.kids
	last := len(k.node) - 1
	if last == 0 {
		n.kids = nil
		return
	}
	k.first[i], k.node[i] = k.first[last], k.node[last]
	k.node[last] = nil
	k.first, k.node = k.first[:last], k.node[:last]
}

func (t *radix[T]) get(prefix string) *T {
	n := &t.root
	for prefix != "" {
		if n, _ = n.child(prefix[0]); n == nil || !strings.HasPrefix(prefix, n.label) {
			return nil
		}
		prefix = prefix[len(n.label):]
	}
	return n.value
}

func (t *radix[T]) set(prefix string, v *T) {
	n := &t.root
	for prefix != "" {
		c, i := n.child(prefix[0])
		if c == nil {
			n.addChild(&radixNode[T]{label: prefix, value: v})
			return
		}
		common := commonPrefix(c.label, prefix)
		if common < len(c.label) {
			mid := &radixNode[T]{label: c.label[:common]}
			c.label = c.label[common:]
			mid.addChild(c)
			n.kids.node[i] = mid
			c = mid
		}
		n, prefix = c, prefix[common:]
	}
	n.value = v
}

func (t *radix[T]) remove(prefix string) {
	n := &t.root
	var parents []*radixNode[T]
	for prefix != "" {
		c, _ := n.child(prefix[0])
		if c == nil || !strings.HasPrefix(prefix, c.label) {
			return
		}
		parents = append(parents, n)
		n, prefix = c, prefix[len(c.label):]
	}
	n.value = nil
	// Drop the node if it is empty, then merge what has one child left, so that the tree stays compact.
	for len(parents) > 0 && n.value == nil && (n.kids == nil || len(n.kids.node) < 2) {
		p := parents[len(parents)-1]
		parents = parents[:len(parents)-1]
		_, i := p.child(n.label[0])
		if n.kids != nil {
			c := n.kids.node[0]
			c.label = n.label + c.label
			p.kids.node[i] = c
			return
		}
		p.removeChild(i)
		n = p
	}
}

// walk appends to dst the values of all prefixes of key.
func (t *radix[T]) walk(key []byte, dst []*T) []*T {
	n := &t.root
	for {
		if n.value != nil {
			dst = append(dst, n.value)
		}
		if len(key) == 0 {
			return dst
		}
		c, _ := n.child(key[0])
		if c == nil || len(key) < len(c.label) || string(key[:len(c.label)]) != c.label {
			return dst
		}
		key, n = key[len(c.label):], c
	}
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
