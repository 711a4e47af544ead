// Package alarm holds the alarms of a keyspace. It stores them in rows that survive processes, keeps a copy in memory
// for health checks and answers, and applies their effect: NOSPACE makes the store refuse growth.
//
// # Invariants
//
//   - An alarm is active when its row is written. The one exception is CORRUPT: after Damage has raised it, it is shown
//     from memory until its row can be written, because reading or writing rows may be what fails.
//   - Reading the alarms never waits, neither for the store nor for a change under way.
//   - While NOSPACE of any member is active, growth is refused. Otherwise it is not.
//
// # Concurrency
//
// Methods may be called from any goroutine. Changes are made one at a time, and each starts from the rows as they are
// then. So several processes may share the rows. Follow shows what another process has changed within Every.
//
// # Testing
//
// Rows are faked; times are those of testing/synctest. The store's rows are tested in libs/mvcc.
package alarm
