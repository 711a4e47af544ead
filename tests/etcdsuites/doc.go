// Package etcdsuites runs etcd's own test suites against a built server: those of etcd's tests module that start a
// process and speak to it by etcdctl and curl (e2e, and common over e2e).
//
//	go run ./etcdsuites/cmd/etcdsuites -suite e2e                     # what passes on one etcd, against Headwater
//	go run ./etcdsuites/cmd/etcdsuites -suite e2e -run 'Curl|Auth'    # some of it
//	go run ./etcdsuites/cmd/etcdsuites -suite e2e -server etcd -all   # all of it, against etcd itself
//
// The module's source comes from the module cache. A copy of it is changed in three places: clusters have one member,
// ports come from the environment, and tests of etcdctl may take four times as long. Each test runs in a process of its
// own with a deadline, because many of etcd's tests end their process. The tests find the server by name, in a
// directory with "etcd", "etcdctl" and "etcdutl", of which the first is Headwater.
//
// expected.txt lists the tests that pass on an etcd of one member, and says for each that it passes here or why it does
// not. A run fails if a test that is expected to pass fails. It also reports tests that pass although they are expected
// to fail.
//
// # Concurrency
//
// A Bench is used from one goroutine. Two on one machine need ports of their own (Bench.Port), and may still collide on
// the two ports that etcd's tests have built in.
package etcdsuites
