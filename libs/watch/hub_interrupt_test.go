package watch

import (
	"errors"
	"testing"
)

// TestInterrupt: streams end, as when the hub drains, but new ones are taken.
func TestInterrupt(t *testing.T) {
	h := New(Options{})
	defer h.Close()
	h.Start(&memLog{}, 1)
	open := func() *Stream {
		s, err := h.Open()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	old := open()
	defer old.Close()
	h.Interrupt()
	next := open()
	defer next.Close()
	if _, err := old.Next(t.Context()); !errors.Is(err, ErrStopped) {
		t.Error("interrupted:", err)
	}
	if err := next.Create(t.Context(), CreateRequest{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	if turn, err := next.Next(t.Context()); err != nil || len(turn) != 1 {
		t.Error("after the interruption:", turn, err)
	}
}
