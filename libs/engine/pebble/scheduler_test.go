package pebble

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestDefragmentGivenUp: the caller of Defragment gives up while its compaction waits to begin: the process lives, and
// the next call compacts.
func TestDefragmentGivenUp(t *testing.T) {
	s, err := Open("data", small(Options{FS: vfs.NewMem()}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := put(s, "k", incompressible(1, 100<<10)); err != nil {
		t.Fatal(err)
	}
	s.damage.until.Store(1 << 62) // no compaction begins
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Defragment(ctx) }()
	waits := func() bool {
		waiting, _ := s.db.GetWaitingCompaction()
		return waiting
	}
	until(t, "a compaction waits", waits)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.damage.until.Store(0)
	until(t, "the scheduler has tried to begin it", func() bool { return !waits() })
	if err := s.Defragment(t.Context()); err != nil {
		t.Error(err)
	}
	if n := s.db.Metrics().Levels[0].TablesCount; n != 0 {
		t.Errorf("%d tables are in L0", n)
	}
}
