// Package auth is users, roles and permissions as etcd has them: which of them there are (State), what a change makes
// of them, whether a user may read or write a range of keys, passwords, and tokens.
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
// A token of the kind simple is signed with a secret that is a row of the keyspace, so that every process can judge it
// and nothing is kept for it. It names the keyspace, the user, the user's epoch and when it was made; what it allows is
// what the user may do now. A new password, and the deletion of a user, give the name another epoch, which ends all
// tokens of before. A token of the kind jwt is etcd's, and names the keyspace too.
//
// # Invariants
//
//   - A State is never changed. What is asked of it does not depend on anything else.
//   - Whoever is not known may do nothing while authentication is enabled; role root may do everything.
//   - Numbers grow: no two States of a keyspace have the same.
//   - Of a password only its bcrypt hash is kept, and no text made here contains a password, a hash or a token.
//   - The check of a password takes the same time whether there is such a user or not.
//
// # Concurrency
//
// All of it may be used from any goroutine. At most passwordSlots of bcrypt run at a time in a process, and at most
// passwordQueue of a keyspace wait for them; keyspaces take turns, by what their passwords cost.
//
// # Testing
//
// Intervals are compared with a naive model that looks at every key; rows and tokens are fuzzed. What etcd answers to
// sequences of requests is compared in tests/sidebyside.
package auth
