package pebble

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A commit holds the writer lock while Pebble makes writes wait for the disk: metrics must still be answered.
func TestStatsWhileWritesWait(t *testing.T) {
	s, err := Open("data", Options{FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.wmu.Lock()
	defer s.wmu.Unlock()
	got := make(chan Stats, 1)
	go func() { got <- s.Stats() }()
	select {
	case <-got:
	case <-time.After(2 * time.Minute):
		t.Fatal("Stats waits for the writer lock")
	}
}
