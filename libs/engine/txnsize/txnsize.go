package txnsize

// FoundationDB's limits in bytes (ClientKnobs.cpp).
const (
	KeyBytesMax   = 10_000
	ValueBytesMax = 100_000
	TxnBytesMax   = 10_000_000
	// StampBytes is what a mutation with a stamp has behind the key or value that holds it: where the stamp is. It
	// counts in all three limits.
	StampBytes = 4
)

const (
	mutationBytes = 44 // sizeof(MutationRef)
	rangeBytes    = 24 // sizeof(KeyRangeRef)
	counterBytes  = 8
	// readKeyMax is the longest key that may exist as far as reads are concerned: a tenant's prefix is allowed for.
	// Nothing longer is asked for, and bounds of ranges are cut one byte behind it.
	readKeyMax = KeyBytesMax + 8
)

// Size is what a transaction counts as so far. The zero value is an empty transaction. All parameters are lengths.
type Size struct {
	// Root is what the store has before each key; 0 where the lengths of keys have it.
	Root int

	bytes   int
	changes int
}

// Bytes returns the size in bytes.
func (z *Size) Bytes() int { return z.bytes }

// Changes returns the number of mutations.
func (z *Size) Changes() int { return z.changes }

// Set counts a mutation that sets a row.
func (z *Size) Set(key, value int) {
	z.mutation(z.under(key), value)
	z.conflictKey(z.under(key))
}

// Add counts an addition to a counter.
func (z *Size) Add(key int) { z.Set(key, counterBytes) }

// StampedKey counts a mutation that sets a row whose key holds a stamp. Its conflict is the cluster's business, which
// knows the key.
func (z *Size) StampedKey(key, value int) { z.mutation(z.under(key)+StampBytes, value) }

// StampedValue counts a mutation that sets a row whose value holds a stamp.
func (z *Size) StampedValue(key, value int) {
	z.mutation(z.under(key), value+StampBytes)
	z.conflictKey(z.under(key))
}

// Clear counts the clear of one row: of the range from its key to the next one.
func (z *Size) Clear(key int) {
	z.mutation(z.under(key), z.under(key)+1)
	z.conflictKey(z.under(key))
}

// ClearRange counts the clear of a range that is not empty.
func (z *Size) ClearRange(begin, end int) {
	begin, end = cut(z.under(begin)), cut(z.under(end))
	z.mutation(begin, end)
	z.conflict(begin, end)
}

// ReadKey counts a key that is read with a conflict.
func (z *Size) ReadKey(key int) {
	if z.under(key) <= readKeyMax {
		z.conflictKey(z.under(key))
	}
}

// Conflict counts a range that is not empty and is added to the read or write conflicts. A scan of a range of more than
// one key adds none.
func (z *Size) Conflict(begin, end int) {
	z.conflict(cut(z.under(begin)), cut(z.under(end)))
}

// under is the length of a key with the store's root before it.
func (z *Size) under(key int) int { return z.Root + key }

func cut(n int) int { return min(n, readKeyMax+1) }

func (z *Size) mutation(a, b int) {
	z.bytes += mutationBytes + a + b
	z.changes++
}

func (z *Size) conflict(begin, end int) { z.bytes += rangeBytes + begin + end }

// conflictKey counts the conflict of one key: from it to the next key, which is a byte longer.
func (z *Size) conflictKey(key int) { z.conflict(key, key+1) }
