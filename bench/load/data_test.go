package load

import (
	"math/rand/v2"
	"testing"
)

func TestKeys(t *testing.T) {
	ks, err := newKeys("/p/", 8, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int64]string{0: "/p/00000", 7: "/p/00007", 999: "/p/00999", 1001: "/p/00001"} {
		got := ks.at(i)
		if got != want {
			t.Errorf("at(%d) = %q, want %q", i, got, want)
		}
		if back, ok := ks.index([]byte(got)); !ok || back != i%1000 {
			t.Errorf("index(%q) = %d, %v", got, back, ok)
		}
	}
	for _, k := range []string{"", "/p/0000", "/q/00001", "/p/0000x", "/p/01000", "/p/-0001", "/p/000001"} {
		if i, ok := ks.index([]byte(k)); ok {
			t.Errorf("index(%q) = %d, want none", k, i)
		}
	}
	for _, bad := range []struct {
		size  int
		space int64
	}{{5, 1000}, {3, 1}, {0, 1}} {
		if _, err := newKeys("/p/", bad.size, bad.space); err == nil {
			t.Errorf("newKeys(%d, %d): no error", bad.size, bad.space)
		}
	}
}

func TestValues(t *testing.T) {
	const seed, size, n = 42, 16, 1000
	vs := NewValues(size, seed)
	r := rand.New(rand.NewPCG(seed, 0))
	seen := map[string]bool{}
	for range n {
		v := vs.Next(r)
		if len(v) != size {
			t.Fatalf("value of %d bytes", len(v))
		}
		seen[v] = true
	}
	if len(seen) < n*9/10 {
		t.Errorf("seed %d: only %d of %d values differ", seed, len(seen), n)
	}
	if NewValues(size, seed).pool != vs.pool || NewValues(size, seed+1).pool == vs.pool {
		t.Error("the seed does not determine the pool")
	}
	if v := NewValues(0, seed).Next(r); v != "" {
		t.Errorf("value of size 0 is %q", v)
	}
}
