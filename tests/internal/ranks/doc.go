// Package ranks lets a client that expects dense revisions, as etcd has them, talk to a server whose revisions have
// gaps (docs/design.md I2). The rank of a revision is its place among all revisions of the keyspace: 1 for that of the
// empty keyspace, 2 for the first write.
//
// # Parts
//
//   - Book: all revisions in order, and how far they are known. It is pure: no goroutines, no connections.
//   - Follower: fills a Book from a watch of all keys from the beginning.
//   - Translator: gRPC client interceptors that replace ranks by revisions in requests, and revisions by ranks in
//     answers. They find them by the names of fields. In requests that are sent as bytes they change the encoding
//     itself, so that everything odd about the encoding stays.
//
// # What is exact, and what is not
//
// A revision in an answer must be one that some event has, or that of the empty keyspace. If the watch has passed a
// revision without an event at it, the answer fails with code DataLoss. Such a revision is never rounded.
//
// A rank that exists has exactly one revision. The rank after the last one is sent as the last revision plus one, the
// smallest later revision. For reads, bounds, comparisons and starts of watches that means the same as the real one. A
// rank further ahead is sent as the last revision plus the distance. For reads, bounds and comparisons it is a future
// revision, as the real one is, which nobody can know. But a watch that starts there would begin with the next write
// instead of a later one. The Translator refuses such a start; callers must not ask for one. Zero, negative numbers,
// and those from Far on are no ranks and stay as they are.
//
// # Concurrency
//
// Everything may be used from any goroutine. An answer waits until the Book has its revisions, for at most patience.
//
// # Testing
//
// The Book and the translation of messages and bytes are tested here, without servers. tests/sidebyside runs all of it,
// and checks that falsified answers are noticed through it.
package ranks
