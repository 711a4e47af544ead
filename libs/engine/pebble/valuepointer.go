package pebble

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// A row whose value is large holds a pointer instead: it says where in the value files the value is. A pointer cannot
// be mistaken for a value. It begins with tagLen random bytes that the store has chosen when it began to use value
// files, so no earlier value begins with them; and later ones that do are marked as what they are.
//
//	tag (15) | 0                                                         value as it is follows
//	tag (15) | 1 | file (8) | offset (8) | length (4) | CRC-32C (4)      pointer
const (
	tagLen     = 15
	refLen     = tagLen + 1
	pointerLen = refLen + 8 + 8 + 4 + 4

	kindVerbatim = 0
	kindPointer  = 1
)

// tagRow holds the tag, once the store uses value files.
var tagRow = []byte{metaPrefix, 't'}

// newTag returns the tag of a store. Its first bit is set: no stamp begins with it, so a value that begins with a stamp
// never needs a mark.
func newTag() []byte {
	tag := make([]byte, tagLen)
	_, _ = rand.Read(tag)
	tag[0] |= 0x80
	return tag
}

// pointer says where a value is.
type pointer struct {
	file   uint64
	offset int64
	length uint32
	sum    uint32
}

func (p pointer) String() string { return fmt.Sprintf("%d bytes at byte %d", p.length, p.offset) }

// append appends what stands in the row behind tag and kind.
func (p pointer) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, p.file)
	b = binary.BigEndian.AppendUint64(b, uint64(p.offset))
	b = binary.BigEndian.AppendUint32(b, p.length)
	return binary.BigEndian.AppendUint32(b, p.sum)
}

// parsePointer reads what a row has behind tag and kind.
func parsePointer(b []byte) (p pointer, ok bool) {
	if len(b) != pointerLen-refLen {
		return p, false
	}
	return pointer{
		file:   binary.BigEndian.Uint64(b),
		offset: int64(binary.BigEndian.Uint64(b[8:])),
		length: binary.BigEndian.Uint32(b[16:]),
		sum:    binary.BigEndian.Uint32(b[20:]),
	}, true
}

// tagged reports whether a row's value begins with the tag. Then it is no plain value.
func (v *valueLog) tagged(raw []byte) bool {
	return v.tag != nil && len(raw) >= refLen && bytes.Equal(raw[:tagLen], v.tag)
}

// needsMark reports whether a value must be marked as one, since it begins with the tag or could after its byte at and
// the following ones have been replaced by a stamp.
func (v *valueLog) needsMark(value []byte, at int) bool {
	n := min(at, tagLen)
	return v.tag != nil && len(value) >= refLen && n > 0 && bytes.Equal(value[:n], v.tag[:n])
}

// A back row leads from a place in a value file to the row that points to it. It is written in the same batch, and
// removed when the file is. So a value is live if its back row leads to a row that points to it, and whoever wants to
// know what a file must have needs not read the file.
//
//	00 'p' | file (8) | offset (8)   →   length (4) | row
const (
	backByte   = 'p'
	backKeyLen = 2 + 8 + 8
)

// backKey returns the key of the back row of a place.
func backKey(file uint64, offset int64) []byte {
	b := append(make([]byte, 0, backKeyLen), metaPrefix, backByte)
	b = binary.BigEndian.AppendUint64(b, file)
	return binary.BigEndian.AppendUint64(b, uint64(offset))
}

// backSpan is the back rows of a file.
func backSpan(file uint64) span { return span{backKey(file, 0), backKey(file+1, 0)} }

// allBackRows is the back rows of all files.
var allBackRows = span{[]byte{metaPrefix, backByte}, []byte{metaPrefix, backByte + 1}}

// back is a back row.
type back struct {
	file   uint64
	offset int64
	length uint32
	row    []byte
}

// parseBack reads a back row. Its row is part of value.
func parseBack(key, value []byte) (b back, ok bool) {
	if len(key) != backKeyLen || len(value) < 4+1 {
		return b, false
	}
	return back{
		file:   binary.BigEndian.Uint64(key[2:]),
		offset: int64(binary.BigEndian.Uint64(key[10:])),
		length: binary.BigEndian.Uint32(value),
		row:    value[4:],
	}, true
}

// appendBack appends the value of a back row but for the row, which follows.
func appendBack(b []byte, length int) []byte { return binary.BigEndian.AppendUint32(b, uint32(length)) }
