package pebble

import "sync"

// chunkBytes is the size of the pieces of memory that readers copy values into. Larger values get pieces of their own.
const chunkBytes = 32 << 10

type chunk [chunkBytes]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// scribbled is what Options.Scribble writes over memory that is returned.
const scribbled = 0xdb

var emptyValue = []byte{}

// arena holds copies of values until it is released. The zero value is ready.
type arena struct {
	free []byte
	used []*chunk
	one  [1]*chunk // backs used: most readers need one chunk

	scribble bool // Options.Scribble
}

// copy returns a copy of b that lives until release.
func (a *arena) copy(b []byte) []byte {
	n := len(b)
	switch {
	case n == 0:
		return emptyValue
	case n > chunkBytes/8 && !a.scribble:
		return append([]byte(nil), b...)
	case n > chunkBytes:
		return append([]byte(nil), b...)
	case n > len(a.free):
		c := chunks.Get().(*chunk)
		if a.used == nil {
			a.used = a.one[:0]
		}
		a.used = append(a.used, c)
		a.free = c[:]
	}
	out := a.free[:n:n]
	a.free = a.free[n:]
	copy(out, b)
	return out
}

// release returns the memory: copies must no longer be used.
func (a *arena) release() {
	for i, c := range a.used {
		if a.scribble {
			for j := range c {
				c[j] = scribbled
			}
		}
		chunks.Put(c)
		a.used[i] = nil
	}
	a.used, a.free = nil, nil
}

// forget leaves the memory to the garbage collector, because copies may still be in use.
func (a *arena) forget() { *a = arena{scribble: a.scribble} }
