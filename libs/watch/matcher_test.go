package watch

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestMatcherAgainstScan adds and removes groups of all shapes at random and compares every match with a scan.
func TestMatcherAgainstScan(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	key := func() string {
		b := make([]byte, rnd.IntN(5))
		for i := range b {
			b[i] = "\x00ab\xfe\xff"[rnd.IntN(5)]
		}
		return string(b)
	}
	type held struct {
		bounds
		key, end string
		one      bool
	}
	m := newMatcher[held]()
	var all []*held
	for range 20_000 {
		switch {
		case rnd.IntN(3) > 0 && len(all) < 200:
			h := &held{key: key(), one: rnd.IntN(4) == 0}
			switch rnd.IntN(3) {
			case 0:
				h.end = prefixEnd(h.key)
			case 1:
				h.end = key()
			}
			if h.key == "" {
				h.key = "\x00"
			}
			switch {
			case h.one:
				h.end, h.bounds = "", keyBounds(h.key)
			case h.end != "" && h.end <= h.key:
				continue
			default:
				h.bounds = rangeBounds(h.key, h.end)
			}
			if old := m.get(h.bounds); old != nil {
				i := slices.Index(all, old)
				if old.key != h.key || old.end != h.end || old.one != h.one {
					t.Fatalf("%+v found for %+v", old, h)
				}
				all = slices.Delete(all, i, i+1)
			}
			all = append(all, h)
			m.set(h.bounds, h)
		case len(all) > 0:
			i := rnd.IntN(len(all))
			m.remove(all[i].bounds)
			if m.get(all[i].bounds) != nil {
				t.Fatalf("%+v is still there", all[i])
			}
			all = slices.Delete(all, i, i+1)
		}
		k := key()
		if k == "" {
			continue
		}
		got := m.match([]byte(k), nil)
		n := 0
		for _, h := range all {
			in := h.key == k
			if !h.one {
				in = k >= h.key && (h.end == "" || k < h.end)
			}
			if in {
				n++
				if !slices.Contains(got, h) {
					t.Fatalf("%q not matched by %+v", k, h)
				}
			}
		}
		if n != len(got) {
			t.Fatalf("%q: %d matches, want %d", k, len(got), n)
		}
	}
	for _, h := range all {
		m.remove(h.bounds)
	}
	if len(m.keys) != 0 || m.prefixes.root.kids != nil || m.prefixes.root.value != nil || m.ranges.root != nil {
		t.Errorf("an empty matcher holds %+v", m)
	}
}

func TestPrefixEnd(t *testing.T) {
	for p, want := range map[string]string{
		"a": "b", "a\xff": "b", "\xff": "", "\xff\xff": "", "": "", "a\x00": "a\x01",
	} {
		if got := prefixEnd(p); got != want {
			t.Errorf("prefixEnd(%q) = %q, want %q", p, got, want)
		}
	}
}
