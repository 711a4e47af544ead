// Package bus carries frames of the revision log from the tailer to the watch hubs, and nudges from writers to the
// tailer (docs/design.md §6).
//
// A Bus may lose, repeat and delay frames: it is only a shortcut past the log. Package feed checks every frame against
// its position (I6) and reads the log where something is missing. So an implementation needs no acknowledgements,
// storage or retries, and it must never make a publisher wait.
//
// Local connects the parts of one process; package bus/nats those of a cluster. Both pass the suite in bus/bustest.
//
// # Format
//
// protos/headwater/bus/v1 describes the bytes of a frame. Append and Parse are written by hand. Parse refers to the
// bytes that it is given instead of copying them, and it refuses everything that a correct sender never sends, so that
// its callers need not check.
// # Invariants
//
//   - A frame does not change after it is published or delivered. Its payloads live as long as somebody refers to them.
//   - A Frame has every entry with a revision in (Prev, Upto]. A receiver that has everything up to Prev has everything
//     up to Upto after it.
//   - Split keeps this: its parts form a chain from Prev to Upto.
//   - Parse never panics and accepts only frames whose revisions are in order.
//
// # Concurrency
//
// All methods of a Bus may be called from any goroutine. A subscriber is called from one goroutine at a time, in the
// order of each publisher's frames, and must return quickly. After cancel has returned it is not called any more. So
// the subscriber itself must not call cancel.
//
// # Testing
//
// FuzzParse holds Parse against the generated code; TestSplit is a property test. bustest runs against both buses.
package bus
