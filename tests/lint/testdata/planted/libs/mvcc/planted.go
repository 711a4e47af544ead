// Package mvcc has a fault for each linter. A comment "want" names the linters that must find the fault in its line.
package mvcc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/headwaterdb/headwater/services/planted" // want depguard
)

var notFound = errors.New("not found") // want errname and staticcheck

type failure struct{}

func (failure) Error() string { return "failure" }

// Fetch leaves the body open.
func Fetch(url string) (int, error) {
	r, err := http.Get(url) // want bodyclose
	if err != nil {
		return 0, fmt.Errorf("fetching: %v", err) // want errorlint
	}
	return r.StatusCode + planted.Nothing, nil
}

// Methods has a literal where net/http has a constant.
func Methods() (*http.Request, error) {
	return http.NewRequest("GET", "http://localhost", nil) // want usestdlibvars
}

// Loop copies its variable and grows its context.
func Loop(ctx context.Context, names []string) context.Context {
	for _, name := range names {
		name := name                                  // want copyloopvar
		ctx = context.WithValue(ctx, failure{}, name) // want fatcontext
	}
	return ctx
}

// Swallow checks an error and drops it.
func Swallow() error {
	if err := errors.Join(notFound, failure{}); err != nil {
		return nil // want nilerr
	}
	return nil
}

// Assign assigns a value that nobody reads.
func Assign(n int) int {
	m := n // want ineffassign
	m = 2 * n
	return m
}

// Shadow hides a function of the language.
func Shadow(s []int) int {
	len := 0 // want predeclared
	for range s {
		len++
	}
	return len
}

// Log mixes pairs and attributes.
func Log() {
	slog.Info("mixed", "a", 1, slog.Int("b", 2)) // want sloglint
}

// Convert converts a string to a string.
func Convert(s string) string {
	return string(s) // want unconvert
}

// Compare always compares in the same way.
func Compare(s string) bool {
	return strings.Index(s, "a") != -1 // want staticcheck and gocritic
}

// Else could do without it.
func Else(s *string) string {
	switch { // want gocritic
	default:
		return *s
	}
}

// Recieve is misspelled. // want misspell
func Recieve(n int) int { // want misspell
	return same(n, 1) + same(n+1, 1)
}

func same(n, one int) int { // want unparam
	return 2 * n
}

func unused() {} // want unused

//nolint:nilerr // nothing is found here: want nolintlint

const mode = 0644 // want gofumpt

// Mode uses mode.
func Mode() int { return mode }
