package watch

// matcher finds the values whose range holds a key: exact keys by map, prefixes by radix walk, other ranges by interval
// tree. The cost of a match does not depend on the number of ranges that do not match. A range has one value at most.
// Not safe for concurrent use.
type matcher[T any] struct {
	keys     map[string]*T
	prefixes radix[T]
	ranges   intervals[T]
}

func newMatcher[T any]() *matcher[T] { return &matcher[T]{keys: map[string]*T{}} }

// get returns the value of r, or nil.
func (m *matcher[T]) get(r bounds) *T {
	switch r.shape {
	case shapeKey:
		return m.keys[r.key()]
	case shapePrefix:
		return m.prefixes.get(r.key())
	default:
		return m.ranges.get(r.key(), r.end())
	}
}

// set gives r the value v, which must not be nil.
func (m *matcher[T]) set(r bounds, v *T) {
	switch r.shape {
	case shapeKey:
		m.keys[r.key()] = v
	case shapePrefix:
		m.prefixes.set(r.key(), v)
	default:
		m.ranges.set(r.key(), r.end(), v)
	}
}

// remove forgets r, which must have a value.
func (m *matcher[T]) remove(r bounds) {
	switch r.shape {
	case shapeKey:
		delete(m.keys, r.key())
	case shapePrefix:
		m.prefixes.remove(r.key())
	default:
		m.ranges.remove(r.key(), r.end())
	}
}

// match appends to dst the values whose range holds key.
func (m *matcher[T]) match(key []byte, dst []*T) []*T {
	if len(m.keys) > 0 {
		if v := m.keys[string(key)]; v != nil {
			dst = append(dst, v)
		}
	}
	dst = m.prefixes.walk(key, dst)
	return m.ranges.stab(key, dst)
}

// Filter is a set of event types that a watcher does not want.
type Filter uint8

const (
	// NoPut drops put events.
	NoPut Filter = 1 << iota
	// NoDelete drops delete events.
	NoDelete
)

type shape uint8

const (
	shapeKey shape = iota + 1
	shapePrefix
	shapeRange
)

// bounds is a range of keys in its leanest form, equal for equal ranges: one string holds both ends, and a prefix has
// none.
type bounds struct {
	ends  string // key, then the exclusive end of a shapeRange; no end means no upper bound
	split uint32
	shape shape
}

// keyBounds is the range of one key; rangeBounds is [key, end), with end "" for no upper bound, and a prefix if it is
// one.
func keyBounds(key string) bounds { return bounds{ends: key, split: uint32(len(key)), shape: shapeKey} }

func rangeBounds(key, end string) bounds {
	switch {
	case end == "" && key == "\x00":
		return bounds{shape: shapePrefix} // keys are never empty, so this is all of them
	case end != "" && end == prefixEnd(key):
		return bounds{ends: key, split: uint32(len(key)), shape: shapePrefix}
	}
	return bounds{ends: key + end, split: uint32(len(key)), shape: shapeRange}
}

func (r *bounds) key() string { return r.ends[:r.split] }
func (r *bounds) end() string { return r.ends[r.split:] }

// spec is what watchers must share to share a group.
type spec struct {
	bounds
	filter Filter
	prevKV bool
}

func (s *spec) wants(deleted bool) bool {
	if deleted {
		return s.filter&NoDelete == 0
	}
	return s.filter&NoPut == 0
}

// prefixEnd is the least key greater than all keys with that prefix, or "" if there is none.
func prefixEnd(p string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] < 0xff {
			return p[:i] + string([]byte{p[i] + 1})
		}
	}
	return ""
}
