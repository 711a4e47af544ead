package leaktest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestFind: it looks as often as it takes for the goroutines to end, and names those that do not.
func TestFind(t *testing.T) {
	looks := 0
	if err := find(time.Hour, func() error {
		if looks++; looks < 100 {
			return errors.New("one is left")
		}
		return nil
	}); err != nil || looks != 100 {
		t.Errorf("%v after %d looks", err, looks)
	}
	before := goleak.IgnoreCurrent()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); <-end }()
	if err := find(0, func() error { return goleak.Find(before) }); err == nil ||
		!strings.Contains(err.Error(), "TestFind") {
		t.Errorf("a goroutine that does not end: %v", err)
	}
	close(end)
	<-ended
	None(t, before)
	for _, code := range []int{0, 2} {
		if got := Code(code, before); got != code {
			t.Errorf("code %d became %d", code, got)
		}
	}
}
