// Package nats carries frames and nudges over core NATS (docs/design.md §6).
//
// Core NATS keeps the order of one publisher's messages and promises nothing else, and a bus needs no more: see package
// bus. So nothing here is acknowledged or stored, and everything is bounded. What cannot be sent or taken in time is
// dropped and counted, and hubs read it from the log.
//
// # How it works
//
//   - Publish and Nudge leave their work to one goroutine, the sender, since nats.go writes to a full connection
//     within the caller's call. Frames wait in a queue of QueueBytes; nudges wait as a set of keyspaces.
//   - The sender cuts frames into messages of at most MessageBytes and the server's payload limit. Larger entries
//     become references.
//   - While there is no connection, nothing is kept. nats.go reconnects for ever, even if NATS was not there at the
//     start or refuses the credentials. If it gives up after all, the keeper makes a new connection with the same
//     subscriptions.
//   - A subscription that is PendingBytes or PendingMessages behind loses frames. So does one that the server cuts off.
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
//   - Only Subscribe, OnNudge and Close wait for the network, and for WriteTimeout at most.
//   - Messages that are not frames of the subscribed keyspace are dropped and counted, whoever has sent them.
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
