// Package nats carries frames and nudges over core NATS (docs/design.md §6).
//
// Core NATS keeps the order of one publisher and promises nothing else, and a bus needs no more: see package bus. So
// nothing here is acknowledged or stored, and everything is bounded: what cannot be sent or taken in time is dropped
// and counted, and hubs read it from the log.
//
// # How it works
//
//   - Publish and Nudge leave their work to one goroutine, the sender, since nats.go writes to a full connection
//     within the caller's call. Frames wait in a queue of QueueBytes; nudges wait as a set of keyspaces.
//   - The sender cuts frames into messages of at most MessageBytes and the server's payload limit. Larger entries
//     become references.
//   - While there is no connection nothing is kept. nats.go reconnects for ever, also when NATS was not there at the
//     start or refuses the credentials; where it gives up all the same, the keeper makes a new connection with the
//     same subscriptions.
//   - A subscription that falls PendingBytes or PendingMessages behind loses frames; so does one that the server cuts
//     off.
//
// # Subjects
//
//	<prefix>.frames.<keyspace>    frames
//	<prefix>.nudges.<keyspace>    empty messages
//
// Bytes of a keyspace's name other than letters, digits, '-' and '_' are written as =XX in hexadecimal.
//
// # Invariants
//
//   - No method waits for the network but Subscribe, OnNudge and Close, and those for WriteTimeout at most.
//   - Messages that are not frames of the subscribed keyspace are dropped and counted, whoever sent them.
//
// # Concurrency
//
// All methods may be called from any goroutine. The package has two goroutines, the sender and the keeper; nats.go
// has its own, one of them for each subscription.
//
// # Testing
//
// The suite of bus/bustest runs against an embedded server and against a nats-server process, which is also stopped and
// started again.
package nats
