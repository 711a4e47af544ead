package gateway

import (
	"net/http"
	"time"
)

// writeTimeoutMin and writeRate bound the time in which a client has to read what is written to it: writeTimeoutMin,
// and what the bytes take at writeRate.
const (
	writeTimeoutMin = 30 * time.Second
	writeRate       = 64 << 10 // bytes/s
)

func writeTimeout(bytes int) time.Duration {
	return writeTimeoutMin + time.Duration(bytes)*time.Second/writeRate
}

// writer bounds how long each write may take. Between writes there is no deadline, because a stream may be silent.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Unwrap is called by http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements http.ResponseWriter.
func (w *writer) Write(b []byte) (int, error) {
	defer w.within(writeTimeout(len(b)))()
	return w.ResponseWriter.Write(b)
}

// FlushError is called by http.ResponseController.
func (w *writer) FlushError() error {
	defer w.within(writeTimeoutMin)()
	return w.control.Flush()
}

// within sets the deadline and returns a function that removes it. Setting a deadline fails only on a connection that
// has ended.
func (w *writer) within(d time.Duration) func() {
	_ = w.control.SetWriteDeadline(time.Now().Add(d))
	return func() { _ = w.control.SetWriteDeadline(time.Time{}) }
}
