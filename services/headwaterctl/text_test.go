package main

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestText: an error is one line in plain words, wherever in it another server's error is.
func TestText(t *testing.T) {
	far := status.Error(codes.FailedPrecondition, "it is built in")
	for want, err := range map[string]error{
		"it is built in":                far,
		"s.db: it is built in":          fmt.Errorf("s.db: %w", far),
		"s.db: a; it is built in":       fmt.Errorf("s.db: %w", errors.Join(errors.New("a"), far)),
		"database space exceeded; full": errors.Join(errors.New("database space exceeded"), errors.New("full")),
	} {
		if got := text(err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
