// Package version says of which commit a binary was built. It depends on nothing, so that every program can have it.
// Its functions may be called from any goroutine.
package version
