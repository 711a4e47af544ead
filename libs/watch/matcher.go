package watch

// matcher finds the groups whose range holds a key: exact keys by map, prefixes by radix walk, other ranges by interval
// tree. The cost of a match does not depend on the number of groups that do not match. Not safe for concurrent use.
type matcher struct {
	keys     map[string][]*group
	prefixes radix
	ranges   intervals
}

func newMatcher() *matcher { return &matcher{keys: map[string][]*group{}} }

func (m *matcher) add(g *group) {
	switch g.spec.shape() {
	case shapeKey:
		m.keys[g.spec.key] = append(m.keys[g.spec.key], g)
	case shapePrefix:
		m.prefixes.add(g.spec.prefix(), g)
	default:
		m.ranges.add(g.spec.key, g.spec.end, g)
	}
}

func (m *matcher) remove(g *group) {
	switch g.spec.shape() {
	case shapeKey:
		if gs := removeGroup(m.keys[g.spec.key], g); len(gs) > 0 {
			m.keys[g.spec.key] = gs
		} else {
			delete(m.keys, g.spec.key)
		}
	case shapePrefix:
		m.prefixes.remove(g.spec.prefix(), g)
	default:
		m.ranges.remove(g.spec.key, g.spec.end, g)
	}
}

// match appends to dst the groups whose range holds key (filters are the caller's business).
func (m *matcher) match(key []byte, dst []*group) []*group {
	if len(m.keys) > 0 {
		dst = append(dst, m.keys[string(key)]...)
	}
	dst = m.prefixes.walk(key, dst)
	return m.ranges.stab(key, dst)
}

// spec is what watchers must share to share a group.
type spec struct {
	key string
	// end is exclusive; "" means no upper bound if ranged is set.
	end    string
	ranged bool
	filter Filter
	prevKV bool
}

// Filter is a set of event types that a watcher does not want.
type Filter uint8

const (
	// NoPut drops put events.
	NoPut Filter = 1 << iota
	// NoDelete drops delete events.
	NoDelete
)

func (s *spec) wants(deleted bool) bool {
	if deleted {
		return s.filter&NoDelete == 0
	}
	return s.filter&NoPut == 0
}

type shape uint8

const (
	shapeKey shape = iota + 1
	shapePrefix
	shapeRange
)

func (s *spec) shape() shape {
	switch {
	case !s.ranged:
		return shapeKey
	case s.all() || s.end != "" && s.end == prefixEnd(s.key):
		return shapePrefix
	default:
		return shapeRange
	}
}

// all: the range from the least key with no upper bound is the empty prefix, since keys are never empty.
func (s *spec) all() bool { return s.ranged && s.end == "" && s.key == "\x00" }

func (s *spec) prefix() string {
	if s.all() {
		return ""
	}
	return s.key
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
