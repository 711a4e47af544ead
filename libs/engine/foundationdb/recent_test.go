//go:build foundationdb

package foundationdb

import (
	"testing"
	"time"
)

// TestAdmission: recent states are offered only while questions of the lowest priority are answered soon.
func TestAdmission(t *testing.T) {
	var a admission
	now := time.Now()
	step := func(d time.Duration, wantOpen, wantAsk bool) {
		t.Helper()
		now = now.Add(d)
		if open, ask := a.open(now); open != wantOpen || ask != wantAsk {
			t.Errorf("open %v, ask %v; want %v, %v", open, ask, wantOpen, wantAsk)
		}
	}
	step(0, false, true) // nobody has asked yet
	asked := now
	step(time.Millisecond, false, false) // one question at a time
	a.answered(asked, true)
	step(0, true, false)
	step(admissionEvery, true, true)
	step(admissionAge-admissionEvery-time.Millisecond, true, false) // the answer is late
	step(time.Millisecond, false, false)                            // too late
	a.answered(now, false)                                          // and then there was none
	step(time.Millisecond, false, true)
	a.answered(now, true)
	step(0, true, false)
}
