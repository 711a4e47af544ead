// Package alarm is the state of a keyspace's alarms: rows that outlive processes, a copy of them in memory that health
// checks and answers show, and what an alarm does (NOSPACE refuses growth).
//
// # Invariants
//
//   - An alarm is active when its row is written. The one exception is CORRUPT that Damage has raised: it is shown from
//     memory until its row can be written, since reading or writing rows may be what fails.
//   - Reading the alarms never waits: neither for the store nor for a change under way.
//   - While any member's NOSPACE is active, the rows are told to refuse growth; else they are told not to.
//
// # Concurrency
//
// Methods may be called from any goroutine. Changes are made one at a time, each on what the rows say then, so that
// several processes may share the rows; what another has changed is shown within Every (Follow).
//
// # Testing
//
// Rows are faked; times are those of testing/synctest. The store's rows are tested in libs/mvcc.
package alarm
