package auth

import (
	"bytes"
	"slices"
)

// interval is the keys k with begin <= k, and k < end unless end is nil: then it has no end.
type interval struct{ begin, end []byte }

// intervalOf is the interval of a key and a range end as requests and permissions have them: an empty end is one key,
// one zero byte no end. ok is false for one without a key in it.
func intervalOf(key, end []byte) (_ interval, ok bool) {
	switch {
	case len(end) == 0:
		return interval{key, append(bytes.Clone(key), 0)}, true
	case openEnded(end):
		return interval{key, nil}, true
	}
	return interval{key, end}, bytes.Compare(key, end) < 0
}

// openEnded says that a range end stands for no end.
func openEnded(end []byte) bool { return len(end) == 1 && end[0] == 0 }

// reaches says that the interval goes on at least up to end.
func (i interval) reaches(end []byte) bool {
	return i.end == nil || end != nil && bytes.Compare(i.end, end) >= 0
}

// union is disjoint intervals in order, none of which touches the next.
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

// covers says that all of a range lies inside the union. Of a range without a key its first key counts.
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
		n-- // the last one that begins before
	}
	return n >= 0 && u[n].reaches(want.end)
}
