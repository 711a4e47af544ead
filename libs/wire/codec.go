package wire

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Marshaler is a response that encodes itself. The codec takes over the references in the slice that it returns.
type Marshaler interface {
	MarshalWire() (mem.BufferSlice, error)
}

// Unmarshaler is a request that decodes itself. It may keep b, which nobody else uses afterwards.
type Unmarshaler interface {
	UnmarshalWire(b []byte) error
}

// Codec is the server's gRPC codec. A Frame is passed on as it is, messages that implement Marshaler or Unmarshaler
// encode and decode themselves, and all others go through protobuf. For clients it is plain "proto".
type Codec struct{}

var _ encoding.CodecV2 = Codec{}

// Name implements encoding.CodecV2.
func (Codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *Frame:
		return m.take(), nil
	case Marshaler:
		return m.MarshalWire()
	case proto.Message:
		b, err := proto.Marshal(m)
		if err != nil {
			return nil, err
		}
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return nil, fmt.Errorf("wire: cannot encode %T", v)
}

// Unmarshal implements encoding.CodecV2.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *Frame:
		m.set(data)
		return nil
	case Unmarshaler:
		return m.UnmarshalWire(data.Materialize())
	case proto.Message:
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		return proto.Unmarshal(buf.ReadOnlyData(), m)
	}
	return fmt.Errorf("wire: cannot decode into %T", v)
}
