package txnsize

import "testing"

// TestSize: a transaction counts as it does in FoundationDB 7.3.79 (sizeof(MutationRef) is 44 and sizeof(KeyRangeRef)
// 24, where both are compiled for x86-64; Transaction::getSize).
func TestSize(t *testing.T) {
	const point = 24 + 100 + 101
	for _, test := range []struct {
		name           string
		bytes, changes int
		do             func(z *Size)
	}{
		{"nothing", 0, 0, func(*Size) {}},
		{"Set", 44 + 100 + 1000 + point, 1, func(z *Size) { z.Set(100, 1000) }},
		{"Set twice", 2 * (44 + 100 + 1000 + point), 2, func(z *Size) { z.Set(100, 1000); z.Set(100, 1000) }},
		{"Add", 44 + 100 + 8 + point, 1, func(z *Size) { z.Add(100) }},
		{"StampedKey", 44 + 100 + 4 + 1000, 1, func(z *Size) { z.StampedKey(100, 1000) }},
		{"StampedValue", 44 + 100 + 1000 + 4 + point, 1, func(z *Size) { z.StampedValue(100, 1000) }},
		{"Clear", 44 + 100 + 101 + point, 1, func(z *Size) { z.Clear(100) }},
		{"ClearRange", 44 + 100 + 3 + 24 + 100 + 3, 1, func(z *Size) { z.ClearRange(100, 3) }},
		{
			"ClearRange beyond all keys", 44 + 2*10_009 + 24 + 2*10_009, 1,
			func(z *Size) { z.ClearRange(20_000, 30_000) },
		},
		{"ReadKey", point, 0, func(z *Size) { z.ReadKey(100) }},
		{"ReadKey that cannot exist", 0, 0, func(z *Size) { z.ReadKey(10_009) }},
		{"Conflict", 24 + 100 + 3, 0, func(z *Size) { z.Conflict(100, 3) }},
		{"Conflict beyond all keys", 24 + 100 + 10_009, 0, func(z *Size) { z.Conflict(100, 30_000) }},
	} {
		var z Size
		test.do(&z)
		if z.Bytes() != test.bytes || z.Changes() != test.changes {
			t.Errorf("%s: %+v, want %d bytes and %d mutations", test.name, z, test.bytes, test.changes)
		}
	}
}

// TestRoot: what is before each key counts wherever a key is named, as if the keys were longer.
func TestRoot(t *testing.T) {
	for name, do := range map[string]func(z *Size, more int){
		"Set":          func(z *Size, more int) { z.Set(100+more, 1000) },
		"Add":          func(z *Size, more int) { z.Add(100 + more) },
		"StampedKey":   func(z *Size, more int) { z.StampedKey(100+more, 1000) },
		"StampedValue": func(z *Size, more int) { z.StampedValue(100+more, 1000) },
		"Clear":        func(z *Size, more int) { z.Clear(100 + more) },
		"ClearRange":   func(z *Size, more int) { z.ClearRange(100+more, 3+more) },
		"ReadKey":      func(z *Size, more int) { z.ReadKey(100 + more) },
		"no such key":  func(z *Size, more int) { z.ReadKey(readKeyMax + more) },
		"Conflict":     func(z *Size, more int) { z.Conflict(100+more, 3+more) },
	} {
		rooted, longer := Size{Root: 7}, Size{}
		do(&rooted, 0)
		do(&longer, 7)
		if rooted.Bytes() != longer.Bytes() || rooted.Changes() != longer.Changes() {
			t.Errorf("%s: %+v, want %+v", name, rooted, longer)
		}
	}
}
