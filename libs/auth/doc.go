// Package auth implements etcd's users, roles and permissions: a State holds them, a Change changes them. The package
// decides whether a user may read or write a range of keys, and it checks passwords and tokens.
//
// # How it works
//
// A State is all users and roles of one keyspace at one number. A change is a function from a State to the rows that it
// writes and the next number; package mvcc stores the rows and runs the change in one transaction. The number is the
// auth revision, doubled, and 1 more while authentication is enabled: it grows with every change, so that a request
// that was admitted under a State can be told from one that was admitted under the State before.
//
// The permissions of a user are two unions of intervals, for reads and for writes. A request is allowed if the whole of
// its interval lies inside the union.
//
// A simple token is signed with a secret that is a row of the keyspace, so that every process can check it and need not
// store it. It names the keyspace, the user, the user's epoch, and when it was made. It allows what the user may do
// now. A new password and the deletion of a user change the epoch of the name, which ends all earlier tokens. A jwt
// token is etcd's, and also names the keyspace.
//
// # Invariants
//
//   - A State never changes, and its answers depend on nothing else.
//   - While authentication is enabled, an unknown user may do nothing, and role root may do everything.
//   - Numbers grow: no two States of a keyspace have the same one.
//   - Only the bcrypt hash of a password is kept, and no text of this package contains a password, a hash or a token.
//   - The check of a password takes the same time whether or not the user exists.
//
// # Concurrency
//
// Everything may be used from any goroutine. A process runs at most passwordSlots of bcrypt at the same time, and at
// most passwordQueue of one keyspace wait. Keyspaces take turns, weighted by the cost of their passwords.
//
// # Testing
//
// Intervals are compared with a simple model that looks at every key. Rows and tokens are fuzzed. tests/sidebyside
// compares sequences of requests with etcd.
package auth
