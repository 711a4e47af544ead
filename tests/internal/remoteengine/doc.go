// Package remoteengine gives processes of a test one engine to share, as pods share FoundationDB: a server hands out
// a store of its own process over a unix socket, and a Client is that store elsewhere.
//
// The client needs nothing but libs/engine, and methods of engine.Txn that a release does not know are no more to it
// than methods nobody calls: a test copies it into the tree of an earlier release and builds pods there. What it
// sends is the same for all of them.
//
// # Invariants
//
//   - What a client has open (readers, commits under way) ends with its connection, as with that of a process to
//     FoundationDB.
//   - A commit is on its way to the store when Commit returns. If the connection ends before Wait, its outcome is
//     unknown.
//
// # Concurrency
//
// A Client may be used from any goroutine, a Reader from one at a time, as engine.Store wants it. Calls do not wait
// for one another.
//
// # Testing
//
// The conformance suite of libs/engine runs over a Client.
package remoteengine
