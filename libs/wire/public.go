//go:build publicapi

package wire

// private says that grpc-go's methods that are not shown are not used.
const private = false
