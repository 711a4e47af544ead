package mvcc

import (
	"testing"
	"time"
)

// TestSettlingDuringFill: however fast a fill makes buckets too large, splits begin for a second only, cuts go on for
// fifteen, and then what has been begun is settled; and so again.
func TestSettlingDuringFill(t *testing.T) {
	const every = 100 * time.Millisecond // a step moves something each time that it may
	now := time.Unix(1e9, 0)
	var s settling
	for round := range 3 {
		if fresh, _ := s.may(now); fresh {
			t.Fatalf("round %d: nothing has moved", round)
		}
		s.move(now, false)
		began, beginning, cutting := now, time.Duration(0), time.Duration(0)
		for cutting < 2*bucketsCut {
			now = now.Add(every)
			fresh, begins := s.may(now)
			if !fresh {
				break
			}
			if cutting = now.Sub(began); begins {
				beginning = cutting
			}
			s.move(now, fresh)
		}
		if beginning != bucketsBegin-every || cutting != bucketsCut-every {
			t.Errorf("round %d: splits began for %v, cuts went on for %v", round, beginning, cutting)
		}
		now = now.Add(bucketsSettle)
	}
}

// TestSettlingAfterRest: the last change is left alone until groups that have not seen it have ended.
func TestSettlingAfterRest(t *testing.T) {
	now := time.Unix(1e9, 0)
	var s settling
	s.move(now, false)
	for _, c := range []struct {
		after time.Duration
		fresh bool
	}{{0, true}, {bucketsSettle - 1, true}, {bucketsSettle, false}} {
		at := now.Add(c.after)
		if fresh, _ := s.may(at); fresh != c.fresh || s.left(at) != bucketsSettle-c.after {
			t.Errorf("after %v: fresh %t, to be left alone for %v", c.after, fresh, s.left(at))
		}
	}
	s.move(now.Add(bucketsCut), false) // the count begins anew
	if fresh, begins := s.may(now.Add(bucketsCut + bucketsSettle/2)); !fresh || !begins {
		t.Errorf("fresh %t, begins %t", fresh, begins)
	}
}
