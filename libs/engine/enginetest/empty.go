package enginetest

import (
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
)

// testEmptyRanges: ranges that end where they begin, or before, are nothing, at the store's first key too. Only an end
// that is nil is the store's.
func testEmptyRanges(t *testing.T, e Engine) {
	s := e.Store
	write(t, s, func(x engine.Txn) {
		x.Set(nil, []byte("first"))
		x.Set([]byte("k"), []byte("v"))
	})
	want := []row{{"", "first"}, {"k", "v"}}
	for name, r := range map[string]struct{ begin, end []byte }{
		"of the first key":  {[]byte{}, []byte{}},
		"of no key":         {nil, []byte{}},
		"of another":        {[]byte("k"), []byte("k")},
		"back to the first": {[]byte("k"), []byte{}},
		"upside down":       {[]byte("l"), []byte("k")},
	} {
		for _, stamped := range []bool{false, true} {
			x := begin(t, s)
			wantScan(t, x, engine.Range{Begin: r.begin, End: r.end})
			x.Discard()

			x = begin(t, s)
			x.AddReadConflict(r.begin, r.end)
			write(t, s, func(o engine.Txn) {
				o.ClearRange(r.begin, r.end) // its first mutation
				if stamped {
					o.UseStamps(1)
					o.SetStampedValue([]byte("stamp"), engine.Stamp{}.Append(nil), 0)
				} else {
					o.AddWriteConflict(r.begin, r.end)
				}
				o.Set([]byte("k"), []byte("v"))
			})
			x.Set([]byte("z"), []byte("no conflict"))
			if _, err := commit(x); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			write(t, s, func(x engine.Txn) { x.Clear([]byte("z")); x.Clear([]byte("stamp")) })
			check := snapshot(t, s)
			wantScan(t, check, engine.Range{}, want...)
			check.Close()
		}
	}
}
