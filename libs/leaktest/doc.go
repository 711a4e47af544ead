// Package leaktest looks for goroutines that tests have left, as goleak does, but as patiently as all other waits of
// tests: goleak gives a goroutine that is about to end less than half a second, which a busy machine may not give it.
//
// # Concurrency
//
// A Find sees the goroutines of all tests that run meanwhile.
package leaktest
