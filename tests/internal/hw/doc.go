// Package hw runs a server binary for black-box tests: headwater built from this tree, real etcd as the yardstick, or
// nats-server, which headwater's pods talk through.
//
// A Server is one data directory and one client address. Its process may be started, killed (SIGKILL), terminated
// (SIGTERM), paused (SIGSTOP) and started again on the same directory and address, as often as a test likes; clients
// that were made for Endpoint go on after a restart.
//
// Binaries are built once per test process into a temporary directory; a TestMain should call Cleanup at its end.
// HEADWATER_BINARY names a ready binary to be used instead of building one.
//
// No server outlives the test process (package spawn).
//
// Concurrency: a Server's methods may be called from any goroutine; they exclude one another.
package hw
