package etcdapi

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwaterdb/headwater/libs/wire"
)

// keepAliveRequest is pb.LeaseKeepAliveRequest, decoded by hand. Its only field is ID.
type keepAliveRequest struct {
	id int64
}

var _ wire.Unmarshaler = (*keepAliveRequest)(nil)

// UnmarshalWire implements wire.Unmarshaler. It skips fields of other numbers or types, as protobuf does.
func (r *keepAliveRequest) UnmarshalWire(b []byte) error {
	r.id = 0
	return fields(b, func(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
		if num != 1 {
			return 0, nil
		}
		return intField(typ, b, &r.id), nil
	})
}

// keepAliveEncoder writes pb.LeaseKeepAliveResponse.
type keepAliveEncoder struct{ headerCodec }

// keepAliveResponse is an encoded pb.LeaseKeepAliveResponse. It contains the slice that gRPC needs, which saves an
// allocation.
type keepAliveResponse struct {
	slice [1]mem.Buffer
}

var _ wire.Marshaler = (*keepAliveResponse)(nil)

// MarshalWire implements wire.Marshaler.
func (r *keepAliveResponse) MarshalWire() (mem.BufferSlice, error) { return r.slice[:], nil }

// response encodes the answer to one keep-alive.
func (e keepAliveEncoder) response(rev, id, ttl int64) *keepAliveResponse {
	b := make([]byte, 0, e.size(rev)+sizeInt(id)+sizeInt(ttl))
	b = e.append(b, rev)
	b = appendInt(b, 2, id)
	b = appendInt(b, 3, ttl)
	return &keepAliveResponse{slice: [1]mem.Buffer{mem.SliceBuffer(b)}}
}
