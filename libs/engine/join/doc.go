// Package join commits small transactions of several stamp domains as one transaction of the engine.
//
// On FoundationDB a transaction that uses stamps has to be the first of its commit batch (FIRST_IN_BATCH), so that a
// thousand keyspaces with a write now and then would make a batch each. Stamps of different domains are independent:
// the same version in two keyspaces is no harm. So what several keyspaces have to commit while other commits are
// under way goes together, in one transaction with the mutations and the read conflicts of all members, at the oldest
// of their read versions.
//
// # When
//
// A domain that is alone in the process is not touched: its transactions go to the engine as they are. Beside others
// a small transaction (memberBytes, memberReads, memberOps) goes at once while fewer than slots of other domains' are
// under way. Else it waits until any of them ends, or for waitMax, and goes with all others that wait. Nothing waits
// while nothing is under way.
//
// # Invariants
//
//   - A joined transaction has at most one member of each domain: two would have the same stamps.
//   - Each member keeps the transaction that it has read in, and its record of what it is to change. If the joined
//     transaction is refused, nothing has happened, and each member commits alone, at its own read version. So the
//     conflict of one is an extra round trip for the others and never an answer. A domain that conflicts alone too
//     goes alone for a while.
//   - An outcome that is not known is each member's outcome: it reads back a row of its own, as after a commit alone.
//   - The oldest read version can only add conflicts, never hide one: whatever a member has read is compared with all
//     commits since a version at or before its own. No member is joined to one so old that the member's domain is known
//     to have committed since.
//   - A member whose context ends leaves the others alone. It is not committed any more if it still waited; else its
//     outcome is open, as engine.Pending says.
//   - What can be joined is a transaction with stamps that has read single rows and added ranges by AddReadConflict.
//     What scans with a conflict, adds write conflicts or uses no stamps goes alone.
//
// # Concurrency
//
// As engine.Store. There is one goroutine for each joined transaction under way; Close waits for them.
//
// # Testing
//
// The engine's conformance suite runs on a domain of a Store; line_test.go holds the pure choice of who goes with whom;
// joined groups under faults, conflicts and cancelled contexts, and isolation, run on an engine with
// FoundationDB's limits, and on FoundationDB by make test-fdb. libs/mvcc and tests/keyspaces run on top.
package join
