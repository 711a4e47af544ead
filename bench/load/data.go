package load

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// keys names the keys of a key space: prefix, then the index in decimal, padded with zeros to a fixed size, so that
// byte order is index order.
type keys struct {
	prefix string
	digits int
	space  int64
}

func newKeys(prefix string, size int, space int64) (keys, error) {
	k := keys{prefix: prefix, digits: size - len(prefix), space: space}
	if need := len(strconv.FormatInt(space-1, 10)); k.digits < need {
		return keys{}, fmt.Errorf("key-size %d is too small: prefix %q and %d keys need %d bytes", size, prefix, space,
			len(prefix)+need)
	}
	return k, nil
}

// at returns key i mod space.
func (k keys) at(i int64) string {
	b := make([]byte, len(k.prefix)+k.digits)
	n := copy(b, k.prefix)
	i %= k.space
	for p := len(b) - 1; p >= n; p-- {
		b[p] = byte('0' + i%10)
		i /= 10
	}
	return string(b)
}

// index is the inverse of at; ok is false for a key that is not of the key space.
func (k keys) index(key []byte) (i int64, ok bool) {
	if len(key) != len(k.prefix)+k.digits || string(key[:len(k.prefix)]) != k.prefix {
		return 0, false
	}
	i, err := strconv.ParseInt(string(key[len(k.prefix):]), 10, 64)
	return i, err == nil && i >= 0 && i < k.space
}

// poolBytes is the size of the random pool values are cut from: many times the window of any block compressor.
const poolBytes = 8 << 20

// Values cuts values of one size out of a random pool: no two alike, and none that a server could compress. Safe for
// concurrent use.
type Values struct {
	pool string
	size int
}

// NewValues returns values of so many bytes; equal seeds give equal pools.
func NewValues(size int, seed uint64) Values {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, poolBytes+size)
	src := rand.NewChaCha8(key)
	_, _ = src.Read(b) // never fails
	return Values{pool: string(b), size: size}
}

// Next returns a value that r chooses.
func (v Values) Next(r *rand.Rand) string {
	at := r.IntN(len(v.pool) - v.size)
	return v.pool[at : at+v.size]
}
