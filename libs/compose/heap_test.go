package compose

import (
	"runtime"
	"testing"
)

// TestRaiseHeap: the collector waits for as much garbage as the floor.
func TestRaiseHeap(t *testing.T) {
	next := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NextGC
	}
	before := next()
	release := raiseHeap()
	if raised := next(); raised < before+heapFloor {
		t.Errorf("the next collection is at %d bytes of heap, and was at %d without the floor", raised, before)
	}
	release()
	if after := next(); after >= before+heapFloor {
		t.Errorf("the next collection is still at %d bytes of heap", after)
	}
}
