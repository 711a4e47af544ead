package pebble

import (
	"path/filepath"
	"testing"
)

// TestEmergencyEnds: a compaction that has found no space costs the ballast, and no more: when there is room for both,
// it is laid again, and the alarm ends.
func TestEmergencyEnds(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "data"), small(Options{ReserveBytes: 1 << 20, BallastBytes: 64 << 10}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	sp := s.space
	sp.mu.Lock()
	sp.emergency.Store(true)
	sp.tell(true)
	sp.mu.Unlock()
	for range 2 { // the ballast goes, and comes
		sp.look()
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.full.Load() || sp.alarm || !sp.laid || sp.emergency.Load() {
		t.Errorf("full %v, alarm %v, ballast %v, emergency %v", sp.full.Load(), sp.alarm, sp.laid, sp.emergency.Load())
	}
}
