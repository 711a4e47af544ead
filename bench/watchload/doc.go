// Package watchload measures watches: fan-out, memory, reconnection, and what watchers that do nothing cost others.
//
// Its client is grpc-go with a codec of its own, the same for every server. It scans responses on the wire for what it
// checks (watch, revisions, the time the put was sent, whether a previous version is there) and builds no message.
// Clients and server share the machine, so CPU that the client saves is left for the server. Package load's Watch uses
// etcd's clientv3 and shows what users of that see.
//
// # Invariants
//
//   - Every event is checked: each watch sees each write that matches it once, in order. Where all writes match, the
//     revisions it sees follow each other without a gap from the one it was created at; otherwise they rise, and
//     their number is right at the end. A load whose check fails has no result. The server must have no other
//     clients.
//   - A value begins with the time its put was sent; an event's latency is from then to when the client has it. In an
//     open loop a put that found all clients waiting for the server counts from when it was due. The client's own
//     timers are not counted.
//   - Latencies cover all events whose put was sent in the window, however late they came. Rates cover what came in the
//     window. CPU per event is the server's CPU from the window's begin until the last event, divided by the events of
//     that time.
//
// # Concurrency
//
// Each stream has one receiving goroutine, which alone touches the stream's state until its group is closed; counters
// that others read are atomic. Fan and its kin return when all their goroutines have ended.
//
// # Testing
//
// The scanner is compared with protobuf's own decoder, also fuzzed and with messages cut into pieces. The checks are
// tested with made-up responses, the loads at small scale against an embedded etcd. Nothing asserts a speed.
package watchload
