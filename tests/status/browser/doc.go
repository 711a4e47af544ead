// Package browser tries the status page in a real Chromium without a window: that its policy lets it work, that it
// stays live, follows the log, knows keys, fits narrow screens, and that nothing that is stored becomes a script. It is
// a module of its own, because of what drives the browser.
//
// # Invariants
//
//   - Where there is no Chromium the tests are skipped, and say so in capitals: handlers are tested without one.
//   - Whatever the browser complains of (a script's error, a breach of the policy) fails the test.
//   - No time is judged.
//
// # Concurrency
//
// None.
//
// # Testing
//
// CHROMIUM names the browser, else it is looked for by its usual names. HEADWATER_PICTURES is a directory in which
// pictures of the pages are written.
package browser
