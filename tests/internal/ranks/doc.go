// Package ranks lets a client that counts revisions as etcd does talk to a server whose revisions have gaps
// (docs/design.md I2): a revision's rank is its place among all revisions of the keyspace, 1 for that of the empty
// keyspace and 2 for the first write.
//
// # Parts
//
//   - Book: all revisions in order, and how far they are known. It is pure: no goroutines, no connections.
//   - Follower: fills a Book from a watch of all keys from the beginning.
//   - Translator: gRPC client interceptors which put revisions in place of ranks in requests, and ranks in place of
//     revisions in answers, by the names of fields. Requests that are sent as bytes are changed in their encoding, so
//     that what is odd about them stays.
//
// # What is exact, and what is not
//
// A revision in an answer must be one that some event has, or that of the empty keyspace. A revision that the watch
// has passed without an event at it is an error, never rounded: the answer is refused with code DataLoss.
//
// A rank that exists has exactly one revision. The rank after the last one is sent as the last revision plus one:
// "the smallest revision after", which means the same for a read, a bound, a comparison and the start of a watch. A
// rank further ahead is sent as the last revision plus the distance. That is a future revision as well, to reads and
// bounds and comparisons no different from the real one, which nobody can know; but a watch that starts there would
// begin with the next write, and not with one later. Request refuses such a start; callers must not ask for one.
// Zero, negative numbers, and those from Far on are no ranks and stay as they are.
//
// # Concurrency
//
// Everything may be used from any goroutine. An answer waits until the Book has got to its revisions, at most patience.
//
// # Testing
//
// The Book and the translation of messages and bytes are tested here, without servers. tests/sidebyside runs all of
// it, and checks that falsified answers are seen through it.
package ranks
