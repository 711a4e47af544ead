package snapshot

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
)

// bbolt cannot load sorted rows efficiently: its transactions hold what they are given, split pages in the middle, and
// write again what was written before. The rows of a snapshot come in order and are all known. So its pages can be
// written one after another, each once, with one page of each level in memory. tree.go has the layout.

// Sizes and flags of bbolt's pages, version 2, that tree.go does not name.
const (
	pageMeta     = 4
	pageFreelist = 0x10
	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	metaBytes    = 64 // of a meta page after its header, with the checksum (8)
	// branchMin is the least number of children of a branch. bbolt relies on it when rows are deleted later.
	branchMin    = 2
	writeBytes   = 1 << 20 // of the buffer before the file
	firstPage    = 3       // after two meta pages and the list of free pages
	freelistPage = 2
)

var errRowOrder = errors.New("snapshot: rows are not in the order of their keys")

// pageWriter writes the pages of a database, bucket by bucket.
type pageWriter struct {
	w     *bufio.Writer
	to    io.WriterAt
	next  uint64    // page
	elem  []element // of leaf
	data  []byte    // keys and values of the leaf
	last  []byte    // key
	rows  bool      // last is one
	above [][]child // children of the branches that are not written yet, from the lowest level up
	buf   []byte
}

// element is a row of a leaf.
type element struct{ at, key, value int }

// child is a page with its first key.
type child struct {
	key  []byte
	page uint64
}

func newPageWriter(to io.WriterAt) *pageWriter {
	w := io.NewOffsetWriter(to, firstPage*pageSize)
	return &pageWriter{w: bufio.NewWriterSize(w, writeBytes), to: to, next: firstPage}
}

// size is how many bytes the file has by now.
func (p *pageWriter) size() int64 { return int64(p.next) * pageSize }

// put adds a row to the bucket that is being written. write appends the key and then the value to its argument, and
// returns the length of the key.
func (p *pageWriter) put(write func(b []byte) (out []byte, key int)) error {
	at := len(p.data)
	data, key := write(p.data)
	p.data = data
	row := element{at, key, len(data) - at - key}
	if p.rows && bytes.Compare(p.last, data[at:at+key]) >= 0 {
		return errRowOrder
	}
	p.last, p.rows = append(p.last[:0], data[at:at+key]...), true
	if len(p.elem) > 0 && pageHeader+(len(p.elem)+1)*elementBytes+len(data) > pageSize {
		p.data = data[:at]
		if err := p.leaf(); err != nil {
			return err
		}
		p.data = append(p.data[:0], data[at:]...)
		row.at = 0
	}
	p.elem = append(p.elem, row)
	return nil
}

// leaf writes the page with the present rows.
func (p *pageWriter) leaf() error {
	var first []byte
	if len(p.elem) > 0 {
		first = bytes.Clone(p.data[:p.elem[0].key])
	}
	at, err := p.writeLeaf(p.elem, p.data, 0)
	p.elem, p.data = p.elem[:0], p.data[:0]
	if err != nil {
		return err
	}
	return p.branch(0, child{first, at})
}

func (p *pageWriter) writeLeaf(rows []element, data []byte, flags uint32) (at uint64, err error) {
	p.page(pageLeaf, len(rows), len(data))
	for i, r := range rows {
		b := binary.LittleEndian.AppendUint32(p.buf, flags)
		b = binary.LittleEndian.AppendUint32(b, uint32((len(rows)-i)*elementBytes+r.at))
		b = binary.LittleEndian.AppendUint32(b, uint32(r.key))
		p.buf = binary.LittleEndian.AppendUint32(b, uint32(r.value))
	}
	p.buf = append(p.buf, data...)
	return p.write()
}

// page begins a page with a number of elements, and of bytes after them.
func (p *pageWriter) page(kind uint16, count, data int) {
	over := (pageHeader + count*elementBytes + data - 1) / pageSize
	b := binary.LittleEndian.AppendUint64(p.buf[:0], p.next)
	b = binary.LittleEndian.AppendUint16(b, kind)
	b = binary.LittleEndian.AppendUint16(b, uint16(count))
	p.buf = binary.LittleEndian.AppendUint32(b, uint32(over))
}

var zeroPage [pageSize]byte

// write writes the page in buf, with its overflow pages.
func (p *pageWriter) write() (at uint64, err error) {
	if n := len(p.buf) % pageSize; n > 0 {
		p.buf = append(p.buf, zeroPage[n:]...)
	}
	at = p.next
	p.next += uint64(len(p.buf) / pageSize)
	_, err = p.w.Write(p.buf)
	return at, err
}

// branch adds a child to a level of branches. A page is written as soon as it is certain that enough children are left
// for the next one.
func (p *pageWriter) branch(level int, c child) error {
	if level == len(p.above) {
		p.above = append(p.above, nil)
	}
	p.above[level] = append(p.above[level], c)
	all := p.above[level]
	n := branchFits(all)
	if len(all) < n+branchMin {
		return nil
	}
	if err := p.writeBranch(level, all[:n]); err != nil {
		return err
	}
	p.above[level] = append(all[:0], all[n:]...)
	return nil
}

// branchFits returns how many children one page takes. It is at least two, even if the page then overflows.
func branchFits(all []child) int {
	size := pageHeader
	for n, c := range all {
		if size += elementBytes + len(c.key); size > pageSize && n >= branchMin {
			return n
		}
	}
	return len(all)
}

func (p *pageWriter) writeBranch(level int, children []child) error {
	data := 0
	for _, c := range children {
		data += len(c.key)
	}
	p.page(pageBranch, len(children), data)
	at := 0
	for i, c := range children {
		b := binary.LittleEndian.AppendUint32(p.buf, uint32((len(children)-i)*elementBytes+at))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(c.key)))
		p.buf = binary.LittleEndian.AppendUint64(b, c.page)
		at += len(c.key)
	}
	for _, c := range children {
		p.buf = append(p.buf, c.key...)
	}
	page, err := p.write()
	if err != nil {
		return err
	}
	return p.branch(level+1, child{children[0].key, page})
}

// endBucket ends a bucket. The order of calls does not matter, but finish needs the buckets in the order of their
// names.
func (p *pageWriter) endBucket(name []byte) (root bucketRoot, err error) {
	if len(p.elem) > 0 || len(p.above) == 0 {
		if err := p.leaf(); err != nil {
			return root, err
		}
	}
	for level := 0; ; level++ {
		all := p.above[level]
		if len(all) == 1 && level == len(p.above)-1 {
			root = bucketRoot{name, all[0].page}
			break
		}
		if n := branchFits(all); n < len(all) { // there is at most one too many: the next page gets two
			if n = max(len(all)-branchMin, 0); n >= branchMin {
				if err := p.writeBranch(level, all[:n]); err != nil {
					return root, err
				}
				all = all[n:]
			}
		}
		if err := p.writeBranch(level, all); err != nil {
			return root, err
		}
		p.above[level] = nil
	}
	p.above, p.rows = nil, false
	return root, nil
}

// bucketRoot is a bucket that has been written.
type bucketRoot struct {
	name []byte
	page uint64
}

// finish writes the rest of the file. roots are in the order of their names. Nothing can be put after it.
func (p *pageWriter) finish(roots []bucketRoot) error {
	var rows []element
	var data []byte
	for _, r := range roots {
		at := len(data)
		data = append(data, r.name...)
		data = binary.LittleEndian.AppendUint64(data, r.page)
		data = binary.LittleEndian.AppendUint64(data, 0) // sequence
		rows = append(rows, element{at, len(r.name), bucketHeader})
	}
	root, err := p.writeLeaf(rows, data, leafBucket)
	if err != nil {
		return err
	}
	if err := p.w.Flush(); err != nil {
		return err
	}
	head := make([]byte, 0, firstPage*pageSize)
	for id := range uint64(2) {
		head = p.appendMeta(head, id, root)
	}
	head = binary.LittleEndian.AppendUint64(head, freelistPage)
	head = binary.LittleEndian.AppendUint16(head, pageFreelist)
	_, err = p.to.WriteAt(head[:firstPage*pageSize], 0)
	return err
}

// appendMeta appends one of the two pages that name the root.
func (p *pageWriter) appendMeta(b []byte, id, root uint64) []byte {
	b = binary.LittleEndian.AppendUint64(b, id)
	b = binary.LittleEndian.AppendUint16(b, pageMeta)
	b = append(b, 0, 0, 0, 0, 0, 0) // count, overflow
	from := len(b)
	b = binary.LittleEndian.AppendUint32(b, boltMagic)
	b = binary.LittleEndian.AppendUint32(b, boltVersion)
	b = binary.LittleEndian.AppendUint32(b, pageSize)
	b = binary.LittleEndian.AppendUint32(b, 0) // flags
	for _, v := range [...]uint64{root, 0, freelistPage, p.next, id} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	sum := fnv.New64a()
	sum.Write(b[from:])
	b = binary.LittleEndian.AppendUint64(b, sum.Sum64())
	return append(b, zeroPage[pageHeader+metaBytes:]...)
}
