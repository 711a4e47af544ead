// Package formats holds data that earlier releases have written, and tests that this release goes on with it. It also
// tests that pods of both releases serve one keyspace during a roll-out.
//
//   - TestStandalone: this release opens a data directory of format 1 and goes on with it, with and without new
//     features.
//
//   - TestRollBack: without new features the previous release can go on with it again.
//
//   - TestKeyspace: the same for a keyspace of pods.
//
//   - TestRefused: the previous release refuses data with new features in one line.
//
//   - TestRollOut: pods of both releases run beside one another under load, before, during and after activation of
//     features.
//
//   - TestLeaseEnding: pods finish the end of a lease that another process has begun. The previous release refuses such
//     rows.
//
//   - TestUsers: pods go on with users and roles that earlier pods have made. The previous release refuses them.
//
// # Fixtures
//
// The previous release has written these files in testdata, from the requests of script_test.go. The .txt files have
// its answers.
//
//	standalone-format1.tar.gz   the data directory of a stopped standalone server
//	keyspace-format1.rows.gz    all rows of an engine that pods have shared: keys and values, each behind its length
//
// The first release with the feature lease-steps has written another one:
//
//	lease-ending.rows.gz        the same of a keyspace with a lease that is ending, between two steps
//
// The first release with the feature auth has written this one:
//
//	users.rows.gz               the same of a keyspace with users and roles, authentication enabled
//
// They are never written again, except to add to the script. That needs the release's commit in the history:
//
//	go test ./formats -run TestWriteFixtures -write-fixtures
//
// Where the commit is not in the history, the tests that need the release's programs are skipped, and say so.
package formats
