// Package remoteengine lets the processes of a test share one engine, as pods share FoundationDB. A server offers a
// store of its own process over a unix socket, and a Client makes that store usable in another process.
//
// A test copies the client into the tree of an earlier release and builds pods there. So the client depends on nothing
// but libs/engine. It may have methods that the engine.Txn of a release does not have yet; nobody calls them there. The
// protocol is the same for all releases.
//
// # Invariants
//
//   - What a client has open (readers, commits under way) ends with its connection, as it does when a process loses
//     FoundationDB.
//   - When Commit returns, the commit is on its way to the store. If the connection ends before Wait, the outcome is
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
