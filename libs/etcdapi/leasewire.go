package etcdapi

import (
	"errors"
	"math/bits"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwaterdb/headwater/libs/wire"
)

// keepAliveRequest is pb.LeaseKeepAliveRequest, decoded by hand: the only field is ID.
type keepAliveRequest struct {
	id int64
}

var _ wire.Unmarshaler = (*keepAliveRequest)(nil)

// UnmarshalWire implements wire.Unmarshaler. Fields of other numbers or types are skipped, as protobuf does.
func (r *keepAliveRequest) UnmarshalWire(b []byte) error {
	r.id = 0
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if num > protowire.MaxValidNumber {
			return errors.New("etcdapi: field number out of range")
		}
		b = b[n:]
		if num == 1 && typ == protowire.VarintType {
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				r.id = int64(v)
			}
		} else {
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}

// keepAliveEncoder writes pb.LeaseKeepAliveResponse. What never changes of the header is encoded once.
type keepAliveEncoder struct {
	before, after []byte // the header's fields before and after its revision
}

func newKeepAliveEncoder(h Header) keepAliveEncoder {
	var e keepAliveEncoder
	e.before = appendUint(e.before, 1, h.ClusterID)
	e.before = appendUint(e.before, 2, h.MemberID)
	e.after = appendUint(e.after, 4, h.RaftTerm)
	return e
}

// keepAliveResponse is an encoded pb.LeaseKeepAliveResponse. It holds the slice that gRPC wants, to save an allocation.
type keepAliveResponse struct {
	slice [1]mem.Buffer
}

var _ wire.Marshaler = (*keepAliveResponse)(nil)

// MarshalWire implements wire.Marshaler.
func (r *keepAliveResponse) MarshalWire() (mem.BufferSlice, error) { return r.slice[:], nil }

// response encodes the answer to one keep-alive.
func (e keepAliveEncoder) response(rev, id, ttl int64) *keepAliveResponse {
	header := len(e.before) + sizeUint(uint64(rev)) + len(e.after)
	size := sizeUint(uint64(id)) + sizeUint(uint64(ttl)) + 1 + protowire.SizeBytes(header)
	b := make([]byte, 0, size)
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(header))
	b = append(b, e.before...)
	b = appendUint(b, 3, uint64(rev))
	b = append(b, e.after...)
	b = appendUint(b, 2, uint64(id))
	b = appendUint(b, 3, uint64(ttl))
	return &keepAliveResponse{slice: [1]mem.Buffer{mem.SliceBuffer(b)}}
}

// appendUint appends a varint field with a number below 16, unless it has its default.
func appendUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// sizeUint is how many bytes appendUint appends.
func sizeUint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + (bits.Len64(v)+6)/7
}
