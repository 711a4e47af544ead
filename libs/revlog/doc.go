// Package revlog is the record of the revision log: what one mutating request has changed, and how that is encoded.
//
// An entry holds, for each event in the order of the request's operations, the new version of the key and the version
// that it replaced. It holds small values itself. For a larger value it has only the key and the revision that wrote
// it: the value is written once, in rows of its own, which live as long as an entry that refers to them.
// docs/formats.md has the layout.
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
