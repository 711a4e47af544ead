package pebble

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestDamageValues is TestDamage for value files, and for the ledger and the newest log of stores that have some:
// whatever happens to one of them, the next start shows everything that was acknowledged, or refuses in one line, after
// which the file can be put back; only what is damaged within a file may be met by reads, which say so.
func TestDamageValues(t *testing.T) {
	if testing.Short() {
		t.Skip("one start after the other: there is nothing here for the race detector")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	o := Options{ValueFiles: true, ValueBytes: 4 << 10, ValueFileBytes: 1 << 20}
	stopped, killed := specimens(t, 3, o)
	otherStopped, otherKilled := specimens(t, 4, o)
	const part = 3
	for _, p := range []struct{ it, other *specimen }{{stopped, otherStopped}, {killed, otherKilled}} {
		t.Run(p.it.name, func(t *testing.T) {
			cases, refused, files := 0, 0, 0
			for _, name := range slices.Sorted(maps.Keys(p.it.files)) {
				kind := kindOf(name)
				if kind != kindValues && name != ledgerName && name != p.it.newest {
					continue
				}
				if kind == kindValues {
					files++
				}
				for _, h := range p.it.harms(rng, name, p.other.files) {
					if rng.IntN(part) != 0 || kind != kindValues && rng.IntN(3) != 0 {
						continue
					}
					r, err := p.it.verdict(h, rng.IntN(12) == 0)
					if err != nil {
						t.Errorf("%s: %s: %v", h.file, h.what, err)
					}
					if cases++; r {
						refused++
					}
				}
			}
			t.Logf("%d value files, %d cases, %d refused, the others complete or told by reads", files, cases, refused)
			if files == 0 { // how many there are depends on when values were collected
				t.Error("no file for a test")
			}
		})
	}
}
