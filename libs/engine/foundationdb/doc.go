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
// Snapshots that are asked for at the same time share one request for a read version and one handle, whose reads are
// snapshot reads. A transaction has a handle of its own with that read version; its reads add their conflict
// ranges in the client library, and read-your-writes is off, so that reads go straight to the storage servers and
// mutations into the commit request. A scan asks for its next batch as soon as one arrives.
//
// # Stamps
//
// FoundationDB fills in the first 10 bytes of a stamp, version and batch order; the index in the last 2 bytes stays.
// Transactions that use stamps set the hidden option FIRST_IN_BATCH, which makes their batch order 0. A commit whose
// order is not 0 fails the store for good: its revisions could not be told from another commit's.
//
// # Sizes
//
// A transaction is counted as the client library counts it (package txnsize), with the root before its keys, so that
// what the library would refuse in the commit's future is refused before it is sent. Should the library refuse it all
// the same, the codes 2101 to 2103 of the future are ErrTooLarge too. Bounds of ranges that are longer than any key are
// cut to the same effect, and a key that is too long to exist is read as one that does not.
//
// # Outcomes
//
// A commit is waited for as long as the caller's context lives, for nobody else knows its outcome. Error 1021 comes
// from the client library after it has made sure that the commit is no longer under way. All other errors of a commit
// either say that it was refused, or are made into the same promise here by a fence: a commit that writes what the
// uncertain one has read, so that it conflicts if it is still to come. If the caller's context ends first, the commit
// is cancelled on this side only and its outcome stays open.
//
// # Unavailability
//
// FoundationDB's client waits for its cluster for ever. Here every wait but that for a commit or for a change ends
// when the context does, and with ErrUnavailable after Options.Timeout. Nothing has to be restarted when the cluster
// is back.
//
// # Invariants
//
//   - Reader.Version is a read version that was asked for after Snapshot or Begin was called; but for RecentSnapshot
//     and BeginRecent, which say how old it may be. RecentSnapshot's is never below one that has been handed out, or
//     that of a commit that is known.
//   - Rows lie under Options.Root and nowhere else.
//   - The network thread of the client library is started once per process and never stopped; so network options
//     (TLS, traces) are the same for all stores of a process. One database handle per cluster file is kept for the
//     life of the process.
//
// # Concurrency
//
// As engine.Store. There is one goroutine of the package's own while read versions are being asked for. A wait that
// can end early cancels its futures; no goroutine is left blocked in the client library. The library has one network
// thread; at 19,000 reads of one key a second it was busy for a third of the time, so there is no option for more.
//
// # Testing
//
// With the tag and FDB_CLUSTER_FILE set, package enginetest and a few tests of its own run on the cluster, each in a
// root of its own that is cleared afterwards. Without either they are skipped, and say so. So does libs/mvcc, which
// besides runs its clients while a command, HEADWATER_FDB_KILL, kills the cluster and starts it again.
package foundationdb
