package gateway

import (
	"net/http"
	"time"
)

// writeTimeoutMin and writeRate say how long a client may take for what is written to it: so long, and as long as it
// takes at that rate.
const (
	writeTimeoutMin = 30 * time.Second
	writeRate       = 64 << 10 // bytes/s
)

func writeTimeout(bytes int) time.Duration {
	return writeTimeoutMin + time.Duration(bytes)*time.Second/writeRate
}

// writer bounds how long each write may take. Between them there is no deadline: a stream may be silent.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements http.ResponseWriter.
func (w *writer) Write(b []byte) (int, error) {
	defer w.within(writeTimeout(len(b)))()
	return w.ResponseWriter.Write(b)
}

// FlushError is for http.ResponseController.
func (w *writer) FlushError() error {
	defer w.within(writeTimeoutMin)()
	return w.control.Flush()
}

// within sets the deadline, and returns what takes it away. Errors are those of connections that have ended.
func (w *writer) within(d time.Duration) func() {
	_ = w.control.SetWriteDeadline(time.Now().Add(d))
	return func() { _ = w.control.SetWriteDeadline(time.Time{}) }
}
