// Package pebble is the embedded engine: an engine.Store on one directory of one process, kept in a Pebble LSM tree.
//
// # How a commit goes
//
// A transaction writes its mutations straight into a Pebble batch. Commit takes the writer lock, checks the
// transaction's reads against the write sets of the commits since its read version, gives out stamps and patches them
// into the batch, and applies the batch: it is then in the write-ahead log's queue and readable, but not durable. The
// state right after it is kept as a view (a reference-counted Pebble snapshot): the next transaction reads that view.
// When the log has been synced, the view becomes the durable view, which is what Snapshots read. Commits that come
// while a sync is under way share the next one (group sync).
//
// # Invariants
//
//   - The durable view never shows a commit whose log record is not synced; views become durable in commit order.
//   - The last stamp of a domain is written in the batch that uses it, so stamps never go backwards over a restart.
//     Stamps of commits that a crash took back are given out again: nobody has been told of them.
//   - A domain is a counter in a row, read when it is first needed; of those used last domainsCached are in memory. All
//     else goes by the order of commits over the whole store (commit.seq), which no stamp shows.
//   - A write set is kept while a transaction that is older than it is open (and within WindowCommits and WindowBytes:
//     beyond that the transaction gets ErrTooOld).
//   - Rows of the user live under the prefix byte 0x01, the engine's own rows under 0x00; so any bytes are a valid key.
//
// # Large values
//
// A store has value files from the first Open with ValueFiles on, for good, or from its beginning with NewValueFiles;
// others do nothing of what follows. A value of at least ValueBytes lies in a value file (valuelog.go), where it is
// written once; its row holds a pointer. Txn.Commit puts it there before it takes the writer lock. A transaction
// without such values does nothing of this.
//
//   - A value is synced before the batch with its pointer is given to Pebble: no row is durable before its value.
//   - A row's bytes that begin with the store's tag are a pointer or a value marked as one; all others are the value
//     (valuepointer.go). Every read of a row of the user goes through plain or taken.
//   - The batch that sets a pointer sets a back row, from the place in the file to the row. It goes with the file. So a
//     value is live if its back row names a row that points to it, and a file that no back row names is not needed.
//   - Only the process that has made a file appends to it. A filled file that no transaction under way has put values
//     into gets no new pointers: what is garbage in it stays garbage.
//   - A value is moved by writing it again, syncing it, and a commit with the writer lock held that changes the row if
//     it still points to the old place (valuecommit.go). No reader can tell, so that commit conflicts with nobody.
//   - A file is removed when its back rows have been, durably, and Pebble has no snapshot from before.
//   - What the collector knows of a file counts only while the file has the length that it had before the collector
//     looked. A file's sync that has failed is not tried again.
//   - At a start each file that back rows name must be listed in the ledger and reach to the last value that they name.
//     A file that nobody names is removed. What a killed process has left is synced before the ledger claims it.
//
// # The ledger
//
// Pebble goes on with what it finds: without its marker it makes a new store on top of the old one, without a log in
// the middle it replays the others. So the store keeps a ledger beside Pebble's files (ledger.go; docs/formats.md has
// the format) of which files there must be and what is in them, and Open compares, before anything is changed:
//
//   - What the ledger says is durable before Pebble does what rests on it; what it does not say yet, nothing has
//     rested on. So a crash at any moment leaves a directory that agrees with it. ledgerFS, the file system under
//     Pebble, lists the moments.
//   - A closed log, the manifest and a table's end are compared byte by byte or by checksum; the blocks of tables
//     have checksums of their own, which reads check.
//   - Only the log that a killed process was writing may end early, as after a crash. Every record of it carries a
//     mark: a number of the process, so that another store's records are told apart, and the last commit known to be
//     durable, so that damage before whole records is told from a torn end.
//   - After a proper end the ledger is exact: nothing may differ.
//   - What a killed process has left is synced before the next one's ledger claims it: a power loss may follow.
//   - The directory itself is locked (LockDir); removing Pebble's LOCK lets nobody in. A file that older releases
//     stumble over (fenceName) keeps them from changing what the ledger describes.
//
// The ledger costs one small write and sync per log, and two per record of the manifest; commits carry 27 bytes more.
//
// # Space
//
// What is garbage is compacted without being asked (housekeep.go): when tombstones are estimated to hide a fifth of the
// tables, or an idle store has much above the last level. compactAll is that, Defragment, and what makes room on a full
// disk: one pass at a time, in ranges of sizing.piece bytes, each of which frees its inputs before the next begins.
// Value files are collected by a goroutine of their own (valuecollect.go), beside writes at a pace that leaves these
// their share of the disk (valuepace.go), and by whoever asks compactAll for space. Logs are short: their chunks are
// allocated as they grow, they are cut when they are long for the store, or old, and not kept for reuse on an idle
// store (logs.go).
//
// # A full disk
//
// A transaction is admitted by what it costs (space.go): what is free, less the memtables that are to be written out,
// less its own bytes twice, may not fall below the floor of its class. Growing ones stop at ReserveBytes, shrinking
// ones (engine.Shrinker) at a half of it, the output of compactions at a quarter, vital ones (engine.Vital) at an
// eighth. What is refused is refused at once, and has the store compacted. So logs, memtables and compactions find
// the space that they need. Large values are counted once. A value file that finds no space fails the transaction, of
// which nothing has been applied, and nothing else. Moving values stops where compactions stop.
//
// When the disk is full nevertheless, because someone else has filled it, a ballast file is given back, and a write of
// the log or the manifest that finds no space waits until there is some: a full disk never fails the store, takes back
// nothing that was acknowledged, and does not stop reads. When there is room again the ballast is laid down anew and
// commits are taken. Close does not wait for space, nor for a disk that does not answer.
//
// A start that has no space for what the logs hold opens Pebble read-only (readonly.go): there is one view, every
// transaction is refused, and when there is room the readers are waited for and Pebble is opened for writing in its
// place.
//
// # Damage
//
// A block that cannot be read back fails the reads that need it with an engine.Damage, and nothing else: an iterator
// that meets it on its way to where it was sent is put aside, and the row looked up without it. What is known to be
// damaged is not looked at again for damageRecheck, since finding out is dear. Compactions that meet it pause
// (scheduler.go), and commits do not wait for the tables that pile up meanwhile (stall.go), as they do for
// compactions that are merely behind. A value whose checksum is wrong fails the reads that want it, and stays where it
// is when the others in its file are moved. OnDamage hears of all of it.
//
// # Failure
//
// If the log or a value file cannot be written for another reason the store is failed for good: every call returns
// ErrUnavailable, no commit under way is acknowledged, and OnFailure is called. The process should end then; what it
// acknowledged is on disk. So it is when the directory has been removed. Goroutines within Pebble are left behind then
// (park.go): letting Pebble unwind ends the process.
//
// All files are for their owner alone (private.go).
//
// # Concurrency
//
// Locks, in order: Store.wmu (one commit at a time, held over the batch's application), Store.mu (short: views, open
// transactions, conflict window), view.mu (idle iterators). space.mu and watches.mu are taken alone. None is held
// while a sync is waited for. valueLog.collecting (one collector at a time) is taken before Store.wmu;
// valueLog.appending (held over writes of value files, and over the sync that fills one) is taken without either, and
// before valueFile.syncing, valueLog.mu and the ledger's locks. valueReaders.mu is a leaf. stall.mu, scheduler.mu and
// those of damage are leaves; space.mu is never held while Pebble is asked for anything. ledgerFS.mu and then ledger.mu
// are taken below Pebble's own locks and held over the ledger's sync. There are five goroutines of the package's own
// (housekeep, watchLevels, applier, the scheduler's, the collector of value files); the sync is waited for by the
// callers of Pending.Wait, the first of whom publishes the views of all commits that it covers: no hop between the sync
// and the answer. A Wait whose context can end takes one goroutine more.
//
// # Memory
//
// Block cache and memtables together stay within CacheBytes + 4 × MemTableBytes. Without cgo they lie in Go's heap: set
// GOMEMLIMIT where memory is short. Large values are held by the transaction that sets them until they are in a file,
// by their readers, and one at a time while they are moved. valueReadersMax value files are kept open. Open
// transactions add WindowBytes at most. Readers copy values into pooled chunks.
//
// # Testing
//
// Package enginetest runs on it in all its variants (FoundationDB's limits, sparse stamps, not pipelined, crashes on a
// strict in-memory file system, nearly all values in value files, values moved meanwhile); disk_linux_test.go fills a
// small tmpfs; bench_test.go measures.
package pebble
