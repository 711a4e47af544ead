package mvcc

import "testing"

// TestKeeperOfFewCounts: the counters are looked at after the first count, and however slowly a keyspace is written,
// again when least has been counted since the last look.
func TestKeeperOfFewCounts(t *testing.T) {
	const bucket = 64
	for _, by := range []int64{1, 3, bucket} {
		var k keeper
		looks, unseen := 0, int64(0)
		k.start(bucket/bucketsLook, func() {
			looks++
			unseen = 0
		})
		rest := func() { // the keeper looks, and goes to sleep
			k.look()
			if !k.rest() {
				t.Fatalf("by %d: it looks again after it has seen everything", by)
			}
		}
		k.changed(by)
		if looks != 1 {
			t.Fatalf("by %d: %d looks after the first count, want 1", by, looks)
		}
		rest()
		for n := range 2 * bucket {
			last := looks
			unseen += by
			k.changed(by)
			if unseen >= bucket/bucketsLook {
				t.Fatalf("by %d, change %d: nobody has looked at %d counts", by, n, unseen)
			}
			if looks != last {
				rest()
			}
		}
		if by == 1 && looks != 1+2*bucket/(bucket/bucketsLook) {
			t.Errorf("%d looks at %d single counts", looks, 2*bucket)
		}
	}
}

// TestKeeperCountedMeanwhile: what is counted while the keeper looks is looked at next, at once or together with what
// comes later.
func TestKeeperCountedMeanwhile(t *testing.T) {
	const least = 4
	var k keeper
	looks := 0
	k.start(least, func() { looks++ })
	k.changed(1)
	k.look()
	k.changed(least)
	if looks != 1 || k.rest() {
		t.Fatalf("%d looks, and the keeper rests", looks)
	}
	k.look()
	k.changed(least - 1)
	if !k.rest() {
		t.Fatal("the keeper looks again although little has been counted")
	}
	k.changed(1)
	if looks != 2 {
		t.Fatalf("%d looks, want 2: what was counted during the last one is forgotten", looks)
	}
}
