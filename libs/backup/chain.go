package backup

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Target is what a restore is to go back to: a revision, or the newest state that was there by a time, or the newest.
type Target struct {
	Revision int64
	Time     time.Time
}

// String names the target.
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
	// ErrNone says that no backup reaches what was asked for.
	ErrNone = errors.New("no backup holds it")
	// ErrBroken says that a chain lacks a backup.
	ErrBroken = errors.New("a backup that it rests on is missing or damaged")
)

// byID sorts manifests by time.
func byID(ms []Manifest) {
	slices.SortFunc(ms, func(a, b Manifest) int { return cmp.Compare(a.ID, b.ID) })
}

// find is a manifest by its ID.
func find(ms []Manifest, id string) (Manifest, bool) {
	i := slices.IndexFunc(ms, func(m Manifest) bool { return m.ID == id })
	if i < 0 {
		return Manifest{}, false
	}
	return ms[i], true
}

// chain is a backup with those that it rests on: a full one, and logs in their order. Errors: ErrBroken.
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

// choose picks the backups that a target is restored from, and the revision. A revision is that of the keyspace that
// was there last, and is taken from the backup that is next to it. Errors: ErrNone; ErrBroken if all that hold the
// revision are, or the newest backup of a time is.
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
			break // who asks for the newest, also of a time, is not given an older one without a word
		}
	}
	return nil, 0, err
}

// candidates are the backups with which a chain may end, the best first.
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

// holds says that a keyspace can be restored at a revision with this backup as the last one.
func (m *Manifest) holds(rev int64) bool {
	if m.Kind == Full {
		return rev <= m.Revision && rev >= max(m.Compact, 1)
	}
	return rev <= m.Revision && rev >= m.Since
}

// Keep is what retention keeps. The zero value keeps everything.
type Keep struct {
	Fulls int           // so many full backups, the newest, with their logs; 0: no bound
	For   time.Duration // those that something younger rests on, or that are; 0: no bound
}

// expired are the backups that need not be kept, those that rest on others first. A chain goes as a whole: when it is
// beyond either bound.
func expired(ms []Manifest, k Keep, now time.Time) (gone []Manifest) {
	ms = slices.Clone(ms)
	byID(ms)
	newest := map[string]time.Time{} // of each chain
	root := map[string]string{}      // of each backup; a log whose parent is lost is one by itself
	for _, m := range ms {           // parents come before what rests on them
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

// Schedule says when backups are due.
type Schedule struct {
	Full time.Duration // between two full ones
	Log  time.Duration // between two logs; 0: there are none
}

// Next says what is due next and when, of the times of the last full backup and of the last one of any kind; zero:
// there is none.
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
