package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines have to end.
const patience = 2 * time.Minute

// Find returns an error that names the goroutines which are left, after it has waited for them to end.
func Find(options ...goleak.Option) error {
	return find(patience, func() error { return goleak.Find(options...) })
}

func find(patience time.Duration, look func() error) error {
	for end := time.Now().Add(patience); ; {
		if err := look(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// None fails the test if goroutines are left.
func None(tb testing.TB, options ...goleak.Option) {
	tb.Helper()
	if err := Find(options...); err != nil {
		tb.Error(err)
	}
}

// Code returns the exit code of a test binary whose tests have ended with code: 1 if all have passed, and goroutines
// are left.
func Code(code int, options ...goleak.Option) int {
	if code != 0 {
		return code
	}
	if err := Find(options...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Main runs the tests of a package, looks for goroutines that are left, and ends the process.
func Main(m *testing.M, options ...goleak.Option) {
	os.Exit(Code(m.Run(), options...))
}
