// Package etcdsuites runs etcd's own test suites against a built server: those of etcd's tests module that start a
// process and speak to it by etcdctl and curl (e2e, and common over e2e).
//
//	go run ./etcdsuites/cmd/etcdsuites -suite e2e                     # what passes on one etcd, against Headwater
//	go run ./etcdsuites/cmd/etcdsuites -suite e2e -run 'Curl|Auth'    # some of it
//	go run ./etcdsuites/cmd/etcdsuites -suite e2e -server etcd -all   # all of it, against etcd itself
//
// The module's source comes from the module cache and is changed in three places, in a copy: clusters have one member,
// ports come from the environment, and tests of etcdctl have four times as long. Each test is a process of its own with
// a deadline, since many of etcd's tests end their process. The server is found by name: a directory with "etcd",
// "etcdctl" and "etcdutl" is made for each, of which the first is Headwater.
//
// expected.txt has what passes on one etcd, and for each whether it passes here, or why it does not. A run fails when a
// test fails that passed, and says which pass that did not.
//
// # Concurrency
//
// A Bench is used from one goroutine. Two on one machine need ports of their own (Options.Port), and still may meet on
// the two ports that etcd's tests have by number.
package etcdsuites
