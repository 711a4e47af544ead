// Package refetcd runs real etcd inside the test process, as the reference that Headwater is compared with.
//
// etcd runs with default settings, except that it does not sync files and hashes passwords cheaply. That changes no
// answer and saves most of the time. Its log is dropped. A Server is used from one goroutine at a time.
package refetcd
