//go:build !publicapi

package wire

// private says that unexported methods of grpc-go may be used.
const private = true
