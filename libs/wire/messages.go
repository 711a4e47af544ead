package wire

import (
	"encoding/binary"
	"reflect"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// MessageWriter writes many messages of one server stream at once. grpc-go's own SendMsg hands each message to the
// transport alone, which for small messages costs more than the messages themselves. The transport does not need
// that: it takes a header and a list of buffers and sends their bytes as they are, and gRPC's framing allows any
// number of messages in them.
//
// That method of the transport (Write of the ServerStream that grpc.ServerTransportStreamFromContext returns) has an
// argument of an internal type, so it is called by reflection. It follows the same rules as SendMsg, which is built
// on it: it sends the response headers first if they have not been sent, waits while the stream has too much unsent,
// and fails when the stream is over. What SendMsg does beyond that is not done here: interceptors that wrap the
// stream, stats handlers and binary logs see nothing (libs/server's counts are told by AddSent; spans of a watch have
// no messages in them), and the codec is not asked.
//
// A MessageWriter may be used by the goroutine that calls SendMsg, in turns with it. Messages are sent in the order of
// the calls.
type MessageWriter struct {
	stream compressing
	write  reflect.Value
	data   mem.BufferSlice
	args   [3]reflect.Value // header, &data, options
}

// compressing is the part of the transport's stream that needs no reflection.
type compressing interface{ SendCompress() string }

// PrefixBytes is the size of what precedes each message: a byte that says whether it is compressed, and its length.
const PrefixBytes = 5

// PutPrefix writes the prefix of an uncompressed message of size bytes, which must fit in 32 bits.
func PutPrefix(b []byte, size int) {
	b[0] = 0
	binary.BigEndian.PutUint32(b[1:PrefixBytes], uint32(size))
}

// NewMessageWriter returns a writer for stream. It returns nil if the messages have to be sent by SendMsg: if stream is
// neither grpc-go's own nor shows the stream that it wraps (Unwrapped), if messages are to be compressed, if this
// version of grpc-go lacks what the writer needs, or if the binary was built with the tag publicapi.
func NewMessageWriter(stream grpc.ServerStream) *MessageWriter {
	for {
		w, ok := stream.(interface{ Unwrapped() grpc.ServerStream })
		if !ok {
			break
		}
		stream = w.Unwrapped()
	}
	if !private || reflect.TypeOf(stream).String() != "*grpc.serverStream" {
		return nil
	}
	s := grpc.ServerTransportStreamFromContext(stream.Context())
	c, ok := s.(compressing)
	if !ok || compressed(c) {
		return nil
	}
	write := reflect.ValueOf(s).MethodByName("Write")
	if !write.IsValid() || !isWrite(write.Type()) {
		return nil
	}
	w := &MessageWriter{stream: c, write: write}
	w.args = [3]reflect.Value{
		reflect.Zero(write.Type().In(0)), reflect.ValueOf(&w.data).Elem(), reflect.New(write.Type().In(2).Elem()),
	}
	return w
}

// isWrite says whether t is func([]byte, mem.BufferSlice, *struct{…}) error.
func isWrite(t reflect.Type) bool {
	return t.NumIn() == 3 && t.In(0) == reflect.TypeFor[[]byte]() && t.In(1) == reflect.TypeFor[mem.BufferSlice]() &&
		t.In(2).Kind() == reflect.Pointer && t.In(2).Elem().Kind() == reflect.Struct &&
		t.NumOut() == 1 && t.Out(0) == reflect.TypeFor[error]()
}

func compressed(c compressing) bool {
	name := c.SendCompress()
	return name != "" && name != encoding.Identity
}

// Write sends data, which holds whole messages, each after its prefix. It takes over one reference to each buffer, and
// the slice itself, even if it fails. The error is the transport's: a status, or that of a broken connection.
func (w *MessageWriter) Write(data mem.BufferSlice) error {
	w.data = data
	result := w.write.Call(w.args[:])
	w.data = nil
	data.Free() // the transport has references of its own
	err, _ := result[0].Interface().(error)
	return err
}
