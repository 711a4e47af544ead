// Package stack runs the distributed form as local processes, in the topology of docker-compose.yml: FoundationDB,
// NATS, pods of each kind, and nginx with the very deploy/nginx.conf.template. It is for trying Headwater out without
// Docker (`make stack`) and for killing things under load (`make chaos`).
//
// Everything is real: FoundationDB has to be there (see FindFoundationDB), and so does nginx; nats-server and the
// pods are built from the module graph and the tree. There is no replacement for FoundationDB: one process on another
// engine would be another system.
//
// # Invariants
//
//   - Everything listens on 127.0.0.1 and keeps its files in one directory.
//   - No process outlives the one that started it: processes get SIGKILL from the kernel when that ends (on Linux),
//     however it ends.
//   - A Process that has been started is ready: it answers.
//
// # Concurrency
//
// The methods of one Process and of a Stack may be called from any goroutine; calls on one Process wait for each other.
package stack
