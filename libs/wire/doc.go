// Package wire is the server's side of the etcd wire format. Its gRPC codec lets frequent messages encode and decode
// themselves, or pass undecoded. Its MessageWriter sends many messages of a stream at once.
//
// # Concurrency
//
// Codec is stateless and may be used from any goroutine. A Frame and a MessageWriter belong to one goroutine at a time.
//
// # Testing
//
// MessageWriter is tested over a real connection, mixed with SendMsg, with buffers that are overwritten when they are
// given back. TestMessageWriter fails if a new grpc-go lacks what the writer needs. The server would still work, with
// SendMsg.
package wire
