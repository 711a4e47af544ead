// Package fsck checks the rows of one keyspace on a running deployment: that they agree with one another, and that
// every revision which can be read is what undoing the log from the head gives.
//
// It knows docs/formats.md and nothing of the packages that write rows, so that it finds their mistakes too.
//
// Rows shows the rows themselves, each with what it means.
//
// # What is checked
//
//   - The versions of a key are a chain: what a hist row says was replaced at a revision is followed by a version of
//     that very revision, one number higher, or by a new beginning if the key was deleted there; the last is the idx
//     row, or none. So a read at any revision finds what it should.
//   - Each version and each replacement has its event in the log, with the same revisions, numbers, lease, size and
//     place of the value, and the same bytes where both have them; each event of the log has its hist row and its
//     version. So undoing an entry leads to what a read at the revision before finds, and nothing has changed that
//     the log does not tell.
//   - Larger values have all their rows, and no others are there. Leases and attachments name one another. The cursor
//     of the removal, the compact revision, the head and the features agree. Where one state was read throughout, the
//     sum of the live bytes is the counter.
//
// # One revision, many transactions
//
// A check reads in pages of a bounded size, each in one state of the store: the same for all of them if the engine
// lets a snapshot live so long, else newer ones. All checks of a page are within its state, and what is written
// meanwhile adds versions, entries and nothing else, so that all that could be read at Report.Revision when the check
// began has been checked when it ends, but for what a compaction has removed since. A page that outlives its snapshot
// is read again, and is half as long.
//
// # Concurrency
//
// Check and Rows may be called from any goroutine; several may run. They write nothing, and call what
// they are given from the caller's goroutine.
//
// # Memory
//
// A page: Options.PageRows rows, with the log entries that their versions name, entriesAtOnce at a time. Beside it the
// buckets of the count index, which are about one for a thousand keys.
package fsck
