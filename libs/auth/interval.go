package auth

import (
	"bytes"
	"slices"
)

// interval is the keys k with begin <= k and k < end. If end is nil, it has no end.
type interval struct{ begin, end []byte }

// intervalOf returns the interval for a key and a range end of a request or permission. An empty end means one key, and
// an end of one zero byte means no end. ok is false if no key is in it.
func intervalOf(key, end []byte) (_ interval, ok bool) {
	switch {
	case len(end) == 0:
		return interval{key, append(bytes.Clone(key), 0)}, true
	case openEnded(end):
		return interval{key, nil}, true
	}
	return interval{key, end}, bytes.Compare(key, end) < 0
}

// openEnded says whether a range end means no end.
func openEnded(end []byte) bool { return len(end) == 1 && end[0] == 0 }

// reaches says whether the interval reaches at least to end.
func (i interval) reaches(end []byte) bool {
	return i.end == nil || end != nil && bytes.Compare(i.end, end) >= 0
}

// union is a list of intervals in order that neither overlap nor touch.
type union []interval

// unionOf merges intervals.
func unionOf(all []interval) union {
	slices.SortFunc(all, func(a, b interval) int { return bytes.Compare(a.begin, b.begin) })
	var u union
	for _, i := range all {
		if n := len(u); n > 0 && u[n-1].reaches(i.begin) {
			if !u[n-1].reaches(i.end) {
				u[n-1].end = i.end
			}
			continue
		}
		u = append(u, i)
	}
	return u
}

// covers says whether the union contains a whole range. If the range has no key, its first key counts.
func (u union) covers(key, end []byte) bool {
	want, ok := intervalOf(key, end)
	if !ok {
		want, _ = intervalOf(key, nil)
	}
	n, found := slices.BinarySearchFunc(
		u,
		want.begin,
		func(i interval, k []byte) int { return bytes.Compare(i.begin, k) },
	)
	if !found {
		n-- // the last interval that begins before
	}
	return n >= 0 && u[n].reaches(want.end)
}
