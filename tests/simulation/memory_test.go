package simulation

import (
	"bytes"
	"testing"
)

// TestMemories: a memory grows where it is, and is used again, all zero.
func TestMemories(t *testing.T) {
	m := &memories{}
	defer m.close()
	const most = 64 << 20
	one := m.Allocate(0, most)
	b := one.Reallocate(1 << 16)
	b[0], b[len(b)-1] = 1, 1
	grown := one.Reallocate(1 << 20)
	if &grown[0] != &b[0] || len(grown) != 1<<20 || grown[0] != 1 {
		t.Fatal("it does not grow where it is")
	}
	grown[len(grown)-1] = 1
	if one.Reallocate(most+1) != nil {
		t.Error("it grows beyond what was asked for")
	}
	two := m.Allocate(0, most)
	if other := two.Reallocate(1); &other[0] == &b[0] {
		t.Error("two have the same")
	}
	one.Free()
	three := m.Allocate(0, most)
	again := three.Reallocate(1 << 20)
	if &again[0] != &b[0] {
		t.Error("it is not used again")
	}
	if bytes.ContainsFunc(again, func(r rune) bool { return r != 0 }) {
		t.Error("what is used again is not zero")
	}
	two.Free()
	three.Free()
}
