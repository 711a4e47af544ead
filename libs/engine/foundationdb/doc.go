// Package foundationdb is the engine on a FoundationDB cluster. It exists behind the build tag foundationdb, since it
// needs cgo, libfdb_c 7.3 and its headers; without the tag the package is empty.
//
// # Build
//
//	CGO_ENABLED=1 CGO_CFLAGS=-I<include> CGO_LDFLAGS=-L<lib> go build -tags foundationdb
//
// where <include>/foundationdb holds fdb_c.h and <lib> holds libfdb_c.so; both flags are unnecessary where
// FoundationDB's client package is installed. Network options that have no field in Options are set by libfdb_c's own
// environment variables, FDB_NETWORK_OPTION_<NAME>.
//
// # Reads
//
// Snapshots that are requested at the same time share one request for a read version and one handle, whose reads are
// snapshot reads. A transaction has its own handle with that read version. Its reads add their conflict ranges in the
// client library. Read-your-writes is off, so reads go directly to the storage servers, and mutations into the commit
// request. A scan requests its next batch as soon as one arrives.
//
// # Stamps
//
// FoundationDB fills in the first 10 bytes of a stamp, version and batch order. The index in the last 2 bytes stays.
// Transactions that use stamps set the hidden option FIRST_IN_BATCH, which makes their batch order 0. A commit whose
// batch order is not 0 fails the store for good: its revisions could be equal to another commit's.
//
// # Sizes
//
// The size of a transaction is counted as the client library counts it (package txnsize), with the root before its
// keys. So what the library would refuse in the commit's future is refused before it is sent. If the library refuses a
// transaction nevertheless, the codes 2101 to 2103 of the future are ErrTooLarge too. Bounds of ranges that are longer
// than any key are cut to the same effect. A read of a key that is too long to exist finds nothing.
//
// # Outcomes
//
// A commit is waited for as long as the caller's context lives, because no other process knows its outcome. The client
// library returns error 1021 after it has made sure that the commit is no longer under way. All other errors of a
// commit either say that it was refused, or are turned into the same promise by a fence. A fence is a commit that
// writes what the uncertain commit has read, so that the latter conflicts if it has not happened yet. If the caller's
// context ends first, the commit is cancelled on this side only, and its outcome stays open.
//
// # Unavailability
//
// FoundationDB's client waits for its cluster forever. Here every wait, except for a commit or for a change, ends when
// the context does, and with ErrUnavailable after Options.Timeout. Nothing has to be restarted when the cluster is
// back.
//
// # Invariants
//
//   - Reader.Version is a read version that was requested after Snapshot or Begin was called. The exceptions are
//     RecentSnapshot and BeginRecent, which say how old it may be. The version of RecentSnapshot is never below one
//     that has been handed out, or that of a commit known to have happened.
//   - Rows lie under Options.Root and nowhere else.
//   - The network thread of the client library is started once per process and never stopped; so network options
//     (TLS, traces) are the same for all stores of a process. One database handle per cluster file is kept for the
//     life of the process.
//
// # Concurrency
//
// As engine.Store. The package has one goroutine of its own while read versions are being requested. A wait that can
// end early cancels its futures; no goroutine stays blocked in the client library. The library has one network thread.
// At 19,000 reads of one key a second it was busy for a third of the time, so there is no option for more.
//
// # Testing
//
// With the tag and FDB_CLUSTER_FILE set, package enginetest and a few tests of this package run on the cluster, each in
// a root of its own that is cleared afterwards. Without either they are skipped, and report that. The same holds for
// libs/mvcc. There a command, HEADWATER_FDB_KILL, also kills the cluster and restarts it while clients run.
package foundationdb
