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
	m := newMatcher()
	var groups []*group
	for range 20_000 {
		switch {
		case rnd.IntN(3) > 0 && len(groups) < 200:
			sp := spec{key: key(), ranged: rnd.IntN(4) > 0}
			switch rnd.IntN(3) {
			case 0:
				sp.end = prefixEnd(sp.key)
			case 1:
				sp.end = key()
			}
			if !sp.ranged {
				sp.end = ""
			} else if sp.end != "" && sp.end <= sp.key {
				continue
			}
			if sp.key == "" {
				sp.key = "\x00"
			}
			g := &group{spec: sp}
			groups = append(groups, g)
			m.add(g)
		case len(groups) > 0:
			i := rnd.IntN(len(groups))
			m.remove(groups[i])
			groups = slices.Delete(groups, i, i+1)
		}
		k := key()
		if k == "" {
			continue
		}
		got := m.match([]byte(k), nil)
		n := 0
		for _, g := range groups {
			in := g.spec.key == k
			if g.spec.ranged {
				in = k >= g.spec.key && (g.spec.end == "" || k < g.spec.end)
			}
			if in {
				n++
				if !slices.Contains(got, g) {
					t.Fatalf("%q not matched by %+v", k, g.spec)
				}
			}
		}
		if n != len(got) {
			t.Fatalf("%q: %d matches, want %d", k, len(got), n)
		}
	}
	for _, g := range groups {
		m.remove(g)
	}
	if len(m.keys) != 0 || len(m.prefixes.root.children) != 0 || len(m.prefixes.root.groups) != 0 || m.ranges.root != nil {
		t.Errorf("an empty matcher holds %+v", m)
	}
}

func TestPrefixEnd(t *testing.T) {
	for p, want := range map[string]string{"a": "b", "a\xff": "b", "\xff": "", "\xff\xff": "", "": "", "a\x00": "a\x01"} {
		if got := prefixEnd(p); got != want {
			t.Errorf("prefixEnd(%q) = %q, want %q", p, got, want)
		}
	}
}
