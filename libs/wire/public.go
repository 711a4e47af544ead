//go:build publicapi

package wire

// private says that unexported methods of grpc-go are not used.
const private = false
