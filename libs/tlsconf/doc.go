// Package tlsconf is the TLS of all of a process's sockets. It reads certificates, authorities and revocation lists,
// again when the files change. It checks names, and says who a client is by its certificate.
//
// A TLS is one set of files with its rules: for clients, for other pods, or for NATS. Handshake turns an accepted
// connection into a server's connection. ClientCredentials secure connections to other servers. FromContext is the only
// way for a handler to learn who its client is.
//
// # Invariants
//
//   - A client's certificate is checked in one place (checks.go), for all listeners in the same way: chain, revocation
//     and names, in every handshake. Where clients' certificates count, sessions are not resumed, so that no client
//     avoids the checks.
//   - A handshake or a scrape looks at the files, at most once per lookEvery. If they cannot be read, or do not fit
//     together, the material that was read before stays in use, and a log line and a metric say so. So a running
//     process survives a bad file, with which it would not start.
//   - Open connections stay as they are when files change.
//   - Identity (identity.go): a certificate speaks for a call only if the call comes directly from the client. A
//     process that passes on a call says so, and names the client in metadata. The metadata counts on a listener for
//     peers, if the peer's name is in a list that is not empty. From anybody else it leaves the call without an
//     identity. A pod that passes on a call never lends its own identity to it.
//
// # Concurrency
//
// A TLS may be used from any goroutine. It starts none.
//
// # Testing
//
// Package tlsconf/tlstest makes certificates. Package server tests all listeners with all kinds of wrong certificates.
package tlsconf
