package etcdapi

import (
	"math/bits"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Frequent responses are written by hand: proto3 fields, which are left out if they have their default, and the
// response header. Field numbers are below 16, so a tag is one byte.

// encoded is a response in its wire form.
type encoded mem.BufferSlice

func (e encoded) MarshalWire() (mem.BufferSlice, error) { return mem.BufferSlice(e), nil }

func encodedBytes(b []byte) encoded { return encoded{mem.SliceBuffer(b)} }

// Field numbers of etcdserverpb.ResponseHeader, and of the header in every response (rpc.proto).
const (
	fieldHeaderCluster  = 1
	fieldHeaderMember   = 2
	fieldHeaderRevision = 3
	fieldHeaderTerm     = 4

	fieldResponseHeader = 1
)

// headerCodec writes response headers. Everything but the revision never changes and is encoded once.
type headerCodec struct {
	ids, term []byte // the fields before and after the revision
}

func newHeaderCodec(h Header) headerCodec {
	ids := appendUint(nil, fieldHeaderCluster, h.ClusterID)
	return headerCodec{
		ids:  appendUint(ids, fieldHeaderMember, h.MemberID),
		term: appendUint(nil, fieldHeaderTerm, h.RaftTerm),
	}
}

// size of the header as a field of a response.
func (c headerCodec) size(rev int64) int { return 1 + protowire.SizeBytes(c.body(rev)) }

// body is the size of the header alone.
func (c headerCodec) body(rev int64) int { return len(c.ids) + sizeInt(rev) + len(c.term) }

func (c headerCodec) append(b []byte, rev int64) []byte {
	b = protowire.AppendTag(b, fieldResponseHeader, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(c.body(rev)))
	b = append(b, c.ids...)
	b = appendInt(b, fieldHeaderRevision, rev)
	return append(b, c.term...)
}

func appendUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendInt(b []byte, num protowire.Number, v int64) []byte { return appendUint(b, num, uint64(v)) }

func appendBool(b []byte, num protowire.Number, v bool) []byte {
	return appendUint(b, num, protowire.EncodeBool(v))
}

func appendBytesField(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

// appendMessage appends a message whose size is known only when it is written.
func appendMessage(b []byte, num protowire.Number, body func([]byte) []byte) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = append(b, 0) // most are short: one byte of length
	start := len(b)
	b = body(b)
	size := len(b) - start
	if extra := protowire.SizeVarint(uint64(size)) - 1; extra > 0 {
		b = append(b, make([]byte, extra)...)
		copy(b[start+extra:], b[start:start+size])
	}
	protowire.AppendVarint(b[:start-1], uint64(size))
	return b
}

// sizeUint is how many bytes appendUint appends.
func sizeUint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + (bits.Len64(v)+6)/7
}

func sizeInt(v int64) int { return sizeUint(uint64(v)) }

func sizeBytesField(v []byte) int {
	if len(v) == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(len(v))
}
