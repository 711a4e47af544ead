// Package stack runs the distributed form as local processes, in the topology of docker-compose.yml: FoundationDB,
// NATS, pods of each kind, and nginx with the same deploy/nginx.conf.template. It is for trying Headwater out without
// Docker (`make stack`), and for killing processes under load (`make chaos`).
//
// Everything is real. FoundationDB has to be installed (see FindFoundationDB), and so does nginx. nats-server is built
// from the module graph and the pods from the tree. There is no replacement for FoundationDB, because one process on
// another engine would be another system.
//
// # Invariants
//
//   - Everything listens on 127.0.0.1 and keeps its files in one directory.
//   - On Linux no process outlives the one that started it. However that ends, the kernel sends the others SIGKILL.
//   - When Start has returned without an error, the Process is ready and answers.
//
// # Concurrency
//
// The methods of a Process and of a Stack may be called from any goroutine. Calls on one Process wait for each other.
package stack
