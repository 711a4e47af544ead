// Package wire is the server's end of the etcd wire format: the gRPC codec that lets hot messages encode and decode
// themselves, and the protobuf primitives they use.
//
// Everything here is stateless and may be used from any goroutine.
package wire
