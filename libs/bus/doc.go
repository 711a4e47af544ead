// Package bus carries frames of the revision log from the tailer to the watch hubs, and nudges from writers to the
// tailer (docs/design.md §6).
//
// A Bus may lose, repeat and delay: it is a shortcut past the log and nothing more. Package feed checks every frame
// against what it has (I6) and reads the log where anything is missing. So no implementation needs acknowledgements,
// storage or retries, and none may make a publisher wait.
//
// Local connects the parts of one process; package bus/nats those of a cluster. Both pass the suite in bus/bustest.
//
// # Format
//
// protos/headwater/bus/v1 describes a frame as bytes. Append and Parse are written by hand: Parse refers to the bytes
// that it was given instead of copying them, and checks what a sender may never do, so that nothing behind it has to.
//
// # Invariants
//
//   - A frame is immutable once published or delivered; its payloads live as long as anybody refers to them.
//   - A Frame is complete for the revisions in (Prev, Upto]: whoever has everything up to Prev has everything up to
//     Upto after it.
//   - Split keeps that: its parts chain from Prev to Upto.
//   - Parse never panics and accepts only frames whose revisions are in order.
//
// # Concurrency
//
// All methods of a Bus may be called from any goroutine. A subscriber is called by one goroutine at a time, in the
// order of each publisher's frames, and must return quickly. It is not called any more when its cancel has returned,
// so it must not call cancel itself.
//
// # Testing
//
// FuzzParse holds Parse against the generated code; TestSplit is a property test. bustest runs against both buses.
package bus
