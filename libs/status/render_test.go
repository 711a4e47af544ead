package status

import (
	"strings"
	"testing"
)

// TestNesting: JSON is set out in lines, unless it lies so deep that those would be many times as long as the value:
// then it is shown as it is, without the work.
func TestNesting(t *testing.T) {
	nested := func(depth int) string {
		return strings.Repeat("[", depth) + strings.Repeat("1,", 20_000) + "1" + strings.Repeat("]", depth)
	}
	for text, want := range map[string]int{
		"": 0, "{}": 1, `{"a":[1,{"b":[]}],"c":[]}`: 4, `["]]]","\"[[",[]]`: 2, `["\\",[]]`: 2, nested(77): 77,
	} {
		if got := nesting([]byte(text)); got != want {
			t.Errorf("%.30q lies %d deep, want %d", text, got, want)
		}
	}
	for depth, laidOut := range map[int]bool{1: true, nestingMax + 1: false, 9999: false} {
		value := []byte(nested(depth))
		var shown string
		allocs := testing.AllocsPerRun(1, func() { shown, _, _ = show(value, valueShown) })
		if (shown != string(value)) != laidOut {
			t.Errorf("%d deep: laid out is %v", depth, !laidOut)
		}
		if !laidOut && allocs > 4 {
			t.Errorf("%d deep: %v allocations for a value that is shown as it is", depth, allocs)
		}
	}
}
