// Package wire is the server's end of the etcd wire format: the gRPC codec that lets hot messages encode and decode
// themselves or pass undecoded, and the writer that sends many messages of a stream at once.
//
// # Concurrency
//
// Codec is stateless and may be used from any goroutine. A Frame and a MessageWriter belong to one goroutine at a time.
//
// # Testing
//
// MessageWriter is tested over a real connection, with buffers that are spoilt when they are given back, in any
// mixture with SendMsg. TestMessageWriter fails if a new grpc-go has not got what the writer needs; the server would
// still work, with SendMsg.
package wire
