// Package browser tests the status page in a real Chromium without a window. The page must work under its security
// policy, update itself, follow the log, react to keys, and fit narrow screens, and no stored data may run as a script.
// It is a module of its own, because of the dependencies of the browser's driver.
//
// # Invariants
//
//   - Without a Chromium the tests are skipped, and say so in capitals. The tests of the handlers need none.
//   - Every error that the browser reports (of a script, or a breach of the policy) fails the test.
//   - No time is judged.
//
// # Concurrency
//
// None.
//
// # Testing
//
// CHROMIUM names the browser. Without it the tests look for the usual names. HEADWATER_PICTURES is a directory into
// which the tests write pictures of the pages.
package browser
