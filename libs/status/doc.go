// Package status is the status page of a process: an HTTP handler that shows, as HTML and as JSON, what the deployment
// does and what its keyspaces contain. It only reads.
//
//	overview        pods, hubs, rates, latencies, work under way    admin services, metrics
//	keyspaces       by name, rate or size                           a census of their few rows
//	keyspaces/NAME  keys, the history of one, a live tail           calls to the process's own etcd API
//
// # Invariants
//
//   - Keys, values and histories are read by calls that the viewer's own client could make: over Options.Conn, with the
//     viewer's certificate, and with the token of the user that the request names. So the usual access rules, users,
//     roles and limits apply, and this package decides nothing about access.
//   - Everything that clients have written passes html/template as text. Pages load only files of this package
//     (Content-Security-Policy), and have no inline scripts and no inline styles.
//   - A request is refused if its Host header names neither an address nor a host by which the process is known (DNS
//     rebinding). Requests over TLS are not, because TLS proves the name. Requests that scripts of other sites have
//     made are refused too.
//   - Nothing is read completely: keys and versions are read by page, and keyspaces in a census of at most censusMax,
//     which reads a few rows for each. At the same time at most requestsMax requests read keyspaces, requestsMax show
//     the overview or the list of keyspaces, and tailsMax tails are open, tailsPerViewer of them from one address.
//   - Metrics are gathered at most once per sampleEvery, however many viewers there are, and not at all if there are
//     none.
//   - The page works without JavaScript, except the tail. The script fetches the same page again and replaces its
//     parts.
//
// # Concurrency
//
// A Handler serves any number of requests at the same time. Close ends its work in the background and its tails.
//
// # Testing
//
// Handlers are tested here with fake services, in tests/status with a server, and in tests/status/browser in Chromium.
package status
