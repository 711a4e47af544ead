// Package pulse lets the periodic work of a process share its wake-ups. A process that sleeps costs nothing; each time
// it wakes up, its runtime, its network and the store's client library do more work than a check of some row is. So
// what must beat by itself (elections, which renew their terms) gives the Pulse its beat, and what is only to be done
// about every second waits for a beat instead of having a timer.
//
// # Invariants
//
//   - Wait returns at the latest after every × lateNum/lateDen, whether there are beats or not. So work that waits does
//     not depend on an election.
//   - Wait does not return before every × earlyNum/earlyDen unless its context ends. So many beats do not make work
//     more frequent.
//
// # Concurrency
//
// All methods may be called from any goroutine. Beat does not block.
//
// # Testing
//
// The tests run in testing/synctest bubbles.
package pulse
