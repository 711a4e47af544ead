package compose

import (
	"errors"
	"log/slog"
	"testing"
)

// TestEnded: a store that takes long to close hides no reason for which the process ends.
func TestEnded(t *testing.T) {
	failed, closing := errors.New("the store has failed"), errors.New("close")
	for _, test := range []struct{ why, closing, want error }{
		{nil, nil, nil},
		{nil, errStillClosing, nil},
		{failed, errStillClosing, failed},
		{failed, nil, failed},
		{nil, closing, closing},
	} {
		if err := ended(slog.New(slog.DiscardHandler), test.why, test.closing); !errors.Is(err, test.want) ||
			(err == nil) != (test.want == nil) {
			t.Errorf("%v, %v: %v, want %v", test.why, test.closing, err, test.want)
		}
	}
}
