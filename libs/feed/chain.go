package feed

import "github.com/headwaterdb/headwater/libs/revlog"

// span is a part of the log: all entries with prev < revision <= upto, in order. It comes from a frame or from a read
// of the log. Entries whose Bytes are nil are references.
type span struct {
	prev, upto int64
	entries    []revlog.Payload
	auth       uint64 // number of the users and roles in a state that has all entries
}

// chain joins spans into one sequence (I6). It is a pure state machine.
type chain struct {
	// at is the position: all entries up to it have been handed out, none after it.
	at int64
	// check says whether an entry can be decoded.
	check func(revlog.Payload) error
}

// verdict says what offer did with a span.
type verdict int

// The verdicts.
const (
	// extended: the position is now the span's end.
	extended verdict = iota + 1
	// old: the span has nothing new.
	old
	// gap: the span does not follow the position, or holds an entry that cannot be used. The log has the missing
	// entries. After they have been read, the span may be offered again.
	gap
)

// offer takes a span and returns its entries that come next, which are a part of the span's. If the verdict is gap, the
// caller must read the log up to the revision need at least.
func (c *chain) offer(s span) (fresh []revlog.Payload, v verdict, need int64) {
	switch {
	case s.upto <= c.at:
		return nil, old, 0
	case s.prev > c.at:
		return nil, gap, s.prev
	}
	first := 0
	for i, p := range s.entries {
		if p.Rev <= c.at {
			first = i + 1
			continue
		}
		if p.Bytes == nil || c.check(p) != nil {
			return s.entries[first:i:i], gap, p.Rev
		}
		c.at = p.Rev
	}
	c.at = s.upto
	return s.entries[first:len(s.entries):len(s.entries)], extended, 0
}
