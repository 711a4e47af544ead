// Package formats holds data that earlier releases have written, and lets this one go on with it; and it lets pods of
// both releases serve one keyspace during a roll-out.
//
//   - TestStandalone: a data directory of format 1 is opened and goes on, with and without new features.
//
//   - TestRollBack: without them the previous release goes on with it again.
//
//   - TestKeyspace: the same for a keyspace of pods.
//
//   - TestRefused: the previous release refuses data with new features in one line.
//
//   - TestRollOut: pods of the previous release and of this one beside one another under load, before, during and
//     after activation.
//
//   - TestLeaseEnding: a lease whose end another process has begun comes to its end; the previous release refuses such
//     rows.
//
//   - TestUsers: pods go on with users and roles that others have made; the previous release refuses them.
//
// # Fixtures
//
// In testdata, written by the previous release from the requests of script_test.go, with what it answered (the .txt
// files):
//
//	standalone-format1.tar.gz   the data directory of a stopped standalone server
//	keyspace-format1.rows.gz    all rows of an engine that pods have shared: keys and values, each behind its length
//
// Another one has been written by the first release with the feature lease-steps:
//
//	lease-ending.rows.gz        the same of a keyspace with a lease that is ending, between two steps
//
// and one by the first release with the feature auth:
//
//	users.rows.gz               the same of a keyspace with users and roles, authentication enabled
//
// They are never written again but to add to the script, with the release's commit in the history:
//
//	go test ./formats -run TestWriteFixtures -write-fixtures
//
// Where the commit is not in the history, the tests that need the release's programs are skipped, and say so.
package formats
