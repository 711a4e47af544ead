//go:build !publicapi

package wire

// private says that grpc-go's methods that are not shown may be used.
const private = true
