// Package version returns the commit from which a binary was built. It depends on nothing, so that every program can
// use it. Its functions may be called from any goroutine.
package version
