package snapshot

import (
	"encoding/binary"
	"errors"
	"io"
)

// bbolt trusts its pages, and with some kinds of damage it never ends. So if no checksum vouches for a file, its tree
// is checked first, without bbolt: every page exists, occurs once, and holds what its elements say.

// The layout of bbolt's pages, little-endian: id (8), flags (2), count (2), overflow (4), elements. An element of a
// branch is position (4), length of key (4), page (8); one of a leaf is flags (4), position (4), lengths of key and
// value (4 each). Positions count from the element. The value of a bucket is its page (8; 0: it follows as a page) and
// a sequence (8).
const (
	pageHeader   = 16
	elementBytes = 16
	pageBranch   = 1
	pageLeaf     = 2
	leafBucket   = 1
	bucketHeader = 16
	treeDepthMax = 64
)

var errTree = errors.New("its pages do not make a tree")

// tree walks over the pages of a file.
type tree struct {
	f     io.ReaderAt
	page  int    // bytes
	pages uint64 // those that the file has
	seen  []byte // a bit for each
}

func newTree(f io.ReaderAt, page int, size int64) *tree {
	pages := uint64(size) / uint64(page)
	return &tree{f: f, page: page, pages: pages, seen: make([]byte, pages/8+1)}
}

// walk checks the pages from one on.
func (t *tree) walk(id uint64, depth int) error {
	b, err := t.read(id)
	if err != nil {
		return err
	}
	if depth > treeDepthMax || binary.LittleEndian.Uint64(b) != id {
		return errTree
	}
	return t.elements(b, depth)
}

// take notes that a page occurs.
func (t *tree) take(id uint64) error {
	if id < 2 || id >= t.pages || t.seen[id/8]&(1<<(id%8)) != 0 {
		return errTree
	}
	t.seen[id/8] |= 1 << (id % 8)
	return nil
}

// read reads a page with its overflow pages.
func (t *tree) read(id uint64) ([]byte, error) {
	if err := t.take(id); err != nil {
		return nil, err
	}
	head := make([]byte, pageHeader)
	if _, err := t.f.ReadAt(head, int64(id)*int64(t.page)); err != nil {
		return nil, err
	}
	over := uint64(binary.LittleEndian.Uint32(head[12:]))
	if id+over >= t.pages {
		return nil, errTree
	}
	for i := range over {
		if err := t.take(id + 1 + i); err != nil {
			return nil, err
		}
	}
	b := make([]byte, int(over+1)*t.page)
	_, err := t.f.ReadAt(b, int64(id)*int64(t.page))
	return b, err
}

// elements checks the content of a page.
func (t *tree) elements(b []byte, depth int) error {
	if len(b) < pageHeader {
		return errTree
	}
	flags, count := binary.LittleEndian.Uint16(b[8:]), int(binary.LittleEndian.Uint16(b[10:]))
	if pageHeader+count*elementBytes > len(b) || flags != pageBranch && flags != pageLeaf ||
		flags == pageBranch && count == 0 {
		return errTree
	}
	for i := range count {
		var err error
		if e := b[pageHeader+i*elementBytes:]; flags == pageBranch {
			err = t.branch(e, depth)
		} else {
			err = t.leaf(e, depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// branch checks the element at the beginning of e.
func (t *tree) branch(e []byte, depth int) error {
	pos, key := uint64(binary.LittleEndian.Uint32(e)), uint64(binary.LittleEndian.Uint32(e[4:]))
	if pos+key > uint64(len(e)) {
		return errTree
	}
	return t.walk(binary.LittleEndian.Uint64(e[8:]), depth+1)
}

func (t *tree) leaf(e []byte, depth int) error {
	flags := binary.LittleEndian.Uint32(e)
	pos, key := uint64(binary.LittleEndian.Uint32(e[4:])), uint64(binary.LittleEndian.Uint32(e[8:]))
	value := uint64(binary.LittleEndian.Uint32(e[12:]))
	switch {
	case pos+key+value > uint64(len(e)):
		return errTree
	case flags&leafBucket == 0:
		return nil
	case value < bucketHeader:
		return errTree
	}
	v := e[pos+key : pos+key+value]
	if root := binary.LittleEndian.Uint64(v); root != 0 {
		return t.walk(root, depth+1)
	}
	if v = v[bucketHeader:]; len(v) < pageHeader || binary.LittleEndian.Uint16(v[8:]) != pageLeaf ||
		depth > treeDepthMax {
		return errTree
	}
	return t.elements(v, depth+1)
}
