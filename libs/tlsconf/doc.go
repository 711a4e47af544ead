// Package tlsconf is TLS for all of a process's sockets: certificates, authorities and revocation lists that are read
// again when their files change, the checks of names, and who a client is by its certificate.
//
// A TLS is one set of files with its rules: that of clients, of other pods, of NATS. Handshake makes a server's
// connection of an accepted one, ClientCredentials secure connections to other servers. FromContext tells a handler
// who its client is; nothing else does.
//
// # Invariants
//
//   - A client's certificate is checked in one place (checks.go), for every listener alike: chain, revocation, names,
//     at every handshake. Sessions are not resumed where certificates of clients count, so that none passes by it.
//   - Files are looked at when a handshake comes, or a scrape, at most once in lookEvery. What cannot be read, or does
//     not fit together, changes nothing: what was read before stays, which a log line and a metric say. So a start
//     fails for a file that a running process survives.
//   - Open connections stay as they are when files change.
//   - Identity (identity.go): a certificate speaks for a call only if the call has come straight from the client. Who
//     passes on a call says so, and names the client in metadata. That counts on a listener for peers, from a peer
//     whose name is in a list that is not empty; from anybody else it leaves the call without an identity. A pod that
//     passes on a call never lends it its own.
//
// # Concurrency
//
// A TLS may be used from any goroutine. It has none of its own.
//
// # Testing
//
// Certificates are made by tlsconf/tlstest. Package server tests all listeners with all kinds of wrong certificates.
package tlsconf
