package backup

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Target is the state that a restore goes back to: a revision, the newest state at a time, or the newest state.
type Target struct {
	Revision int64
	Time     time.Time
}

// String describes the target in words, for errors.
func (t Target) String() string {
	switch {
	case t.Revision > 0:
		return fmt.Sprintf("revision %d", t.Revision)
	case !t.Time.IsZero():
		return t.Time.Format(time.RFC3339)
	}
	return "the newest backup"
}

var (
	// ErrNone: no backup reaches the state that was asked for.
	ErrNone = errors.New("no backup has this state")
	// ErrBroken: a chain lacks a backup.
	ErrBroken = errors.New("a backup that this one needs is missing or damaged")
)

// byID sorts manifests by time.
func byID(ms []Manifest) {
	slices.SortFunc(ms, func(a, b Manifest) int { return cmp.Compare(a.ID, b.ID) })
}

// find returns the manifest with an ID.
func find(ms []Manifest, id string) (Manifest, bool) {
	i := slices.IndexFunc(ms, func(m Manifest) bool { return m.ID == id })
	if i < 0 {
		return Manifest{}, false
	}
	return ms[i], true
}

// chain returns a backup and the backups that it needs: a full one, and logs in their order. Errors: ErrBroken.
func chain(ms []Manifest, last Manifest) ([]Manifest, error) {
	c := []Manifest{last}
	for m := last; m.Kind == Log; {
		p, ok := find(ms, m.Parent)
		if !ok || p.Revision != m.Since || p.Cluster != m.Cluster {
			return nil, fmt.Errorf("%s: %w", m.ID, ErrBroken)
		}
		c, m = append(c, p), p
	}
	slices.Reverse(c)
	return c, nil
}

// choose picks the backups from which a target is restored, and the revision. If a revision occurred in more than one
// history of the keyspace, the newest history counts, and the backup nearest to the revision is taken. Errors: ErrNone.
// ErrBroken if the chain of every backup that has the revision is broken or, for a time, if the chain of the newest one
// is.
func choose(ms []Manifest, t Target) (c []Manifest, rev int64, err error) {
	err = fmt.Errorf("%s: %w", t, ErrNone)
	for _, m := range candidates(ms, t) {
		c, chainErr := chain(ms, m)
		if chainErr == nil {
			rev := m.Revision
			if t.Revision > 0 {
				rev = t.Revision
			}
			return c, rev, nil
		}
		err = fmt.Errorf("%s: %w", t, chainErr)
		if t.Revision == 0 {
			break // never restore an older state silently when the newest, or the newest at a time, was asked for
		}
	}
	return nil, 0, err
}

// candidates returns the backups with which a chain may end, the best one first.
func candidates(ms []Manifest, t Target) (list []Manifest) {
	ms = slices.Clone(ms)
	byID(ms)
	for _, m := range slices.Backward(ms) {
		if (t.Time.IsZero() || !m.Time.After(t.Time)) && (t.Revision == 0 || m.holds(t.Revision)) {
			list = append(list, m)
		}
	}
	if t.Revision == 0 || len(list) == 0 {
		return list
	}
	cluster := list[0].Cluster
	list = slices.DeleteFunc(list, func(m Manifest) bool { return m.Cluster != cluster })
	slices.Reverse(list)
	return list
}

// holds says whether a keyspace can be restored at a revision if this backup is the last one of the chain.
func (m *Manifest) holds(rev int64) bool {
	if m.Kind == Full {
		return rev <= m.Revision && rev >= max(m.Compact, 1)
	}
	return rev <= m.Revision && rev >= m.Since
}

// Keep says what retention keeps. The zero value keeps everything.
type Keep struct {
	Fulls int           // number of full backups, with their logs; 0: no bound
	For   time.Duration // age of the youngest backup of a chain; 0: no bound
}

// expired returns the backups that need not be kept. A backup comes before the backups that it needs. A chain expires
// as a whole, when it is beyond either bound of Keep.
func expired(ms []Manifest, k Keep, now time.Time) (gone []Manifest) {
	ms = slices.Clone(ms)
	byID(ms)
	newest := map[string]time.Time{} // of each chain
	root := map[string]string{}      // of each backup; a log without a parent is its own root
	for _, m := range ms {           // a parent comes before its children
		r := root[m.Parent]
		if m.Kind == Full || r == "" {
			r = m.ID
		}
		root[m.ID] = r
		if newest[r].Before(m.Time) {
			newest[r] = m.Time
		}
	}
	fulls := 0
	drop := map[string]bool{}
	for _, m := range slices.Backward(ms) {
		if root[m.ID] != m.ID {
			continue
		}
		drop[m.ID] = k.For > 0 && now.Sub(newest[m.ID]) > k.For || k.Fulls > 0 && fulls >= k.Fulls
		if m.Kind == Full {
			drop[m.ID] = drop[m.ID] && fulls > 0
			fulls++
		}
	}
	for _, m := range slices.Backward(ms) {
		if drop[root[m.ID]] {
			gone = append(gone, m)
		}
	}
	return gone
}

// Schedule says how often backups are due.
type Schedule struct {
	Full time.Duration // between two full backups
	Log  time.Duration // between two logs; 0: no logs
}

// Next returns the kind and time of the next backup that is due, from the time of the last full backup and of the last
// backup of any kind. A zero time means that there is none.
func (s Schedule) Next(full, last, now time.Time) (kind string, at time.Time) {
	if full.IsZero() {
		return Full, now
	}
	kind, at = Full, full.Add(s.Full)
	if l := last.Add(s.Log); s.Log > 0 && l.Before(at) {
		kind, at = Log, l
	}
	return kind, at
}
