package wire

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Frame is a message that stays encoded: a relay receives it and sends it on without decoding it. A received Frame
// holds a reference to gRPC's own buffers, and sending gives it away. Nothing is copied. The zero value is an empty
// message. A Frame is used by one goroutine at a time.
type Frame struct{ data mem.BufferSlice }

// set takes a reference to data.
func (f *Frame) set(data mem.BufferSlice) {
	f.Free()
	data.Ref()
	f.data = data
}

// Set makes b the message, which the frame keeps.
func (f *Frame) Set(b []byte) {
	f.Free()
	f.data = mem.BufferSlice{mem.SliceBuffer(b)}
}

// take gives the reference away.
func (f *Frame) take() mem.BufferSlice {
	d := f.data
	f.data = nil
	return d
}

// Free gives the buffers back if they have not been sent.
func (f *Frame) Free() { f.take().Free() }

// headBytes is how much of a message HeaderRevision looks at. The header of an etcd response, if it has one, is in
// there.
const headBytes = 64

// HeaderRevision returns the revision in the header of the etcd response that the frame holds; 0 if there is none.
func (f *Frame) HeaderRevision() int64 {
	var room [headBytes]byte
	n := 0
	for _, part := range f.data {
		if n += copy(room[n:], part.ReadOnlyData()); n == headBytes {
			break
		}
	}
	return headerRevision(room[:n])
}

// headerRevision reads field 3 of the message in field 1. Both etcd and Headwater write them first.
func headerRevision(b []byte) int64 {
	const header, revision = 1, 3
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 || num != header || typ != protowire.BytesType {
		return 0
	}
	b = b[n:]
	size, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return 0
	}
	b = b[n:][:min(uint64(len(b)-n), size)]
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0
		}
		b = b[n:]
		if num == revision && typ == protowire.VarintType {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return 0
			}
			return int64(v)
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return 0
		}
		b = b[n:]
	}
	return 0
}
