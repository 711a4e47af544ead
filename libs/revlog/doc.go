// Package revlog is the record of the revision log: what one mutating request changed, and how that is encoded.
//
// An entry is self-contained (design I4): it holds, for each event in the order of the request's operations, the new
// version of the key and the version it replaced, both with values. A watcher with prev_kv, a read at an old revision and
// a compaction need nothing else. docs/formats.md has the layout.
//
// # Invariants
//
//   - A key changes at most once per entry (etcd refuses transactions that would change one twice).
//   - A tombstone has only key and mod revision.
//   - Parse(Append(e)) is e; decoding never copies keys or values and never panics, whatever the bytes.
//
// # Concurrency
//
// All types are values; entries are immutable once handed out.
package revlog
