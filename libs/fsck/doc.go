// Package fsck checks the rows of one keyspace of a running deployment. It checks that they agree with one another, and
// that a read at every readable revision gives what undoing the log from the head gives.
//
// It knows docs/formats.md, but does not use the packages that write rows. So it finds their mistakes too.
//
// Rows shows the rows themselves, each with its meaning.
//
// # What is checked
//
//   - The versions of a key are a chain. If a hist row says that a version was replaced at a revision, the next version
//     has that very revision and a number one higher, or begins anew if the key was deleted there. The last version is
//     the idx row, or there is none. So a read at any revision finds the right version.
//   - Each version and each replacement has its event in the log, with the same revisions, numbers, lease, size and
//     place of the value, and with the same bytes if both have them. Each event of the log has its hist row and its
//     version. So undoing an entry gives what a read at the revision before finds, and the log has every change.
//   - Larger values have all their rows, and there are no other rows of values. Leases and attachments name one
//     another. The cursor of the removal, the compact revision, the head and the features agree. If everything was read
//     in one state, the counter of live bytes is the sum of the live bytes.
//
// # One revision, many transactions
//
// A check reads pages of a bounded size. Each page is read in one state of the store: the same state for all pages if
// the engine keeps a snapshot that long, otherwise newer ones. All checks of a page are made within its state. Writes
// in the meantime only add versions and entries. So when a check ends, it has checked everything that could be read at
// Report.Revision when it began, except what a compaction has removed since. A page that outlives its snapshot is read
// again, with half the length.
//
// # Concurrency
//
// Check and Rows may be called from any goroutine, several at once. They write nothing, and make callbacks from the
// caller's goroutine.
//
// # Memory
//
// A check holds a page: Options.PageRows rows, with the log entries that their versions name, entriesAtOnce at a time.
// It also holds the buckets of the count index, about one per thousand keys.
package fsck
