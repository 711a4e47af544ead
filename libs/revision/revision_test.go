package revision

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwaterdb/headwater/libs/engine"
)

func genSpace(t *rapid.T) Space {
	s, err := New(rapid.Int64Range(-1<<50, 1<<50).Draw(t, "base"), uint(rapid.IntRange(0, ShiftMax).Draw(t, "shift")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func genStamp(t *rapid.T, s Space, label string) engine.Stamp {
	low := max(s.Base, 0)
	return engine.Stamp{
		Version: uint64(rapid.Int64Range(low, low+1<<50).Draw(t, label)),
		Index:   uint16(rapid.IntRange(0, s.GroupMax()-1).Draw(t, label+"Index")),
	}
}

func TestBijectionKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSpace(t)
		a, b := genStamp(t, s, "a"), genStamp(t, s, "b")
		if got := s.Stamp(s.Of(a)); got != a {
			t.Fatalf("Stamp(Of(%v)) = %v", a, got)
		}
		ra, rb := s.Of(a), s.Of(b)
		if (ra < rb) != (a.Compare(b) < 0) || (ra == rb) != (a == b) {
			t.Fatalf("order of %v, %v is not that of %d, %d", a, b, ra, rb)
		}
		if ra < 0 {
			t.Fatalf("revision %d of %v is negative", ra, a)
		}
	})
}

func TestStampBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSpace(t)
		st := genStamp(t, s, "a")
		if s.Stamp(math.MaxInt64).Compare(st) < 0 {
			t.Fatal("the stamp of the largest revision is below a real stamp")
		}
		if s.Stamp(math.MinInt64).Compare(st) > 0 {
			t.Fatal("the stamp of the smallest revision is above a real stamp")
		}
	})
}

func TestDenseIsEtcdsNumbering(t *testing.T) {
	s, err := New(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Of(engine.Stamp{Version: 2}); got != 2 {
		t.Fatalf("version 2 is revision %d", got)
	}
}

func TestShiftIsBounded(t *testing.T) {
	if _, err := New(0, ShiftMax+1); !errors.Is(err, ErrShift) {
		t.Fatalf("err = %v", err)
	}
}

// TestStampEdges: the first and the last stamps that a space has are found again.
func TestStampEdges(t *testing.T) {
	for _, c := range []struct {
		space Space
		st    engine.Stamp
	}{
		{Space{Base: 5, Shift: 2}, engine.Stamp{Version: 5}},
		{Space{Base: -3, Shift: 2}, engine.Stamp{Index: 1}},
		{Space{Base: 1}, engine.Stamp{Version: math.MaxInt64}},
	} {
		if got := c.space.Stamp(c.space.Of(c.st)); got != c.st {
			t.Errorf("%+v: %+v has come back as %+v", c.space, c.st, got)
		}
	}
	if got := (Space{Base: 5}).Stamp(-1); got != (engine.Stamp{}) {
		t.Errorf("before the first: %+v", got)
	}
}
