// Package porttest reserves TCP ports of loopback for tests that must know an address before anybody listens there, or
// that end a server and start another one at the same address.
//
// A port that the system gives out (port 0) is free again as soon as its listener is closed, and the system may give it
// to another test, or to a client's connection, before the server under test listens there. The ports of this package
// are not among those that the system gives out, and no two tests have the same one at a time.
//
// # Invariants
//
//   - A port is reserved, in all processes that use this package, from Reserve until release.
//   - Nobody listened at the address when it was reserved.
//
// # Concurrency
//
// All functions may be called from any goroutine.
package porttest
