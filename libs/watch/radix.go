package watch

import (
	"sort"
	"strings"
)

// radix is a compact radix tree from prefixes to groups: walk visits the groups of all prefixes of a key. An edge is
// found by binary search over the children's first bytes. Not safe for concurrent use.
type radix struct{ root radixNode }

type radixNode struct {
	label    string
	groups   []*group
	children []*radixNode // sorted by label[0], which is unique
}

func (n *radixNode) child(c byte) (int, bool) {
	i := sort.Search(len(n.children), func(i int) bool { return n.children[i].label[0] >= c })
	return i, i < len(n.children) && n.children[i].label[0] == c
}

func (t *radix) add(prefix string, g *group) {
	n := &t.root
	for {
		if prefix == "" {
			n.groups = append(n.groups, g)
			return
		}
		i, ok := n.child(prefix[0])
		if !ok {
			leaf := &radixNode{label: prefix, groups: []*group{g}}
			n.children = append(n.children, nil)
			copy(n.children[i+1:], n.children[i:])
			n.children[i] = leaf
			return
		}
		c := n.children[i]
		common := commonPrefix(c.label, prefix)
		if common < len(c.label) {
			mid := &radixNode{label: c.label[:common], children: []*radixNode{c}}
			c.label = c.label[common:]
			n.children[i] = mid
			c = mid
		}
		n, prefix = c, prefix[common:]
	}
}

func (t *radix) remove(prefix string, g *group) {
	n := &t.root
	var parents []*radixNode
	for prefix != "" {
		i, ok := n.child(prefix[0])
		if !ok || !strings.HasPrefix(prefix, n.children[i].label) {
			return
		}
		parents = append(parents, n)
		n = n.children[i]
		prefix = prefix[len(n.label):]
	}
	n.groups = removeGroup(n.groups, g)
	// Drop the node if it is empty, then merge what has one child left, so that the tree stays compact.
	for len(parents) > 0 && len(n.groups) == 0 && len(n.children) < 2 {
		p := parents[len(parents)-1]
		parents = parents[:len(parents)-1]
		i, _ := p.child(n.label[0])
		if len(n.children) == 1 {
			c := n.children[0]
			c.label = n.label + c.label
			p.children[i] = c
			return
		}
		p.children = append(p.children[:i], p.children[i+1:]...)
		n = p
	}
}

// walk appends to dst the groups of all prefixes of key.
func (t *radix) walk(key []byte, dst []*group) []*group {
	n := &t.root
	for {
		dst = append(dst, n.groups...)
		if len(key) == 0 {
			return dst
		}
		i, ok := n.child(key[0])
		if !ok {
			return dst
		}
		c := n.children[i]
		if len(key) < len(c.label) || string(key[:len(c.label)]) != c.label {
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

func removeGroup(gs []*group, g *group) []*group {
	for i, x := range gs {
		if x == g {
			gs[i] = gs[len(gs)-1]
			gs[len(gs)-1] = nil
			return gs[:len(gs)-1]
		}
	}
	return gs
}
