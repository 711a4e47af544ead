// Package status is the status page of a process: a handler of HTTP requests that shows, in HTML and in JSON, what the
// deployment does and what is in its keyspaces. It only reads.
//
//	overview        pods, hubs, rates, latencies, work under way    admin services, metrics
//	keyspaces       by name, rate or size                           a census of their few rows
//	keyspaces/NAME  keys, the history of one, a live tail           calls to the process's own etcd API
//
// # Invariants
//
//   - Keys, values and histories are read by calls that the viewer's own client could make: over Options.Conn, with the
//     viewer's certificate, and with the token of the user that the request names. So access rules, users, roles and
//     limits hold here as they do there, and nothing of them is decided here.
//   - What a client has written reaches the page through html/template, as text. The pages load nothing but files of
//     this package (Content-Security-Policy), and have no inline script and no inline style.
//   - A request whose Host header names neither an address nor a host that the process is known by is refused, unless
//     it came over TLS, which proves the name (DNS rebinding). So is one that another site's script has made.
//   - Nothing is read in full: keys by page, versions by page, keyspaces in a census of at most censusMax, of which
//     each costs a few rows. At most requestsMax requests read keyspaces at a time, as many show the overview or the
//     list of keyspaces, and tailsMax tails are open, tailsPerViewer of one address.
//   - Metrics are gathered at most once in sampleEvery, however many look. Nothing is gathered while nobody does.
//   - The page is whole without JavaScript, but for the tail. The script fetches the same page again, and puts its
//     parts in the place of the old ones.
//
// # Concurrency
//
// A Handler serves any number of requests at a time. Close ends what it does in the background, and its tails.
//
// # Testing
//
// Handlers here, on made-up services; with a server behind them in tests/status; in Chromium in tests/status/browser.
package status
