package backup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var day0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// made is a manifest of a minute.
func made(minute int, kind, parent string, since, rev int64) Manifest {
	at := day0.Add(time.Duration(minute) * time.Minute)
	return Manifest{
		ID: fmt.Sprintf("%06d-%s", minute, kind), Kind: kind, Parent: parent, Since: since, Revision: rev, Compact: -1,
		Cluster: "1", Time: at,
	}
}

func ids(ms []Manifest) (all []string) {
	for _, m := range ms {
		all = append(all, m.ID)
	}
	return all
}

// TestChoose: a target is restored from the backup next to it, of the keyspace that was there last, and never from a
// chain that lacks a backup.
func TestChoose(t *testing.T) {
	ms := []Manifest{
		made(0, Full, "", 0, 10),
		made(1, Log, "000000-full", 10, 20),
		made(2, Log, "000001-log", 20, 20),
		made(3, Log, "000002-log", 20, 30),
		made(5, Full, "", 0, 40),
		made(6, Log, "000005-full", 40, 50),
		made(8, Log, "000007-log", 55, 60), // what it goes on from is gone
	}
	ms[4].Compact = 35
	at := func(minute int) Target {
		return Target{Time: day0.Add(time.Duration(minute)*time.Minute + time.Second)}
	}
	for _, c := range []struct {
		t    Target
		want []string
		rev  int64
		err  error
	}{
		{Target{Revision: 5}, []string{"000000-full"}, 5, nil},
		{Target{Revision: 10}, []string{"000000-full"}, 10, nil},
		{Target{Revision: 11}, []string{"000000-full", "000001-log"}, 11, nil},
		{Target{Revision: 20}, []string{"000000-full", "000001-log"}, 20, nil},
		{Target{Revision: 25}, []string{"000000-full", "000001-log", "000002-log", "000003-log"}, 25, nil},
		{Target{Revision: 33}, nil, 0, ErrNone},
		{Target{Revision: 36}, []string{"000005-full"}, 36, nil},
		{Target{Revision: 50}, []string{"000005-full", "000006-log"}, 50, nil},
		{Target{Revision: 57}, nil, 0, ErrBroken},
		{Target{Revision: 61}, nil, 0, ErrNone},
		{at(-1), nil, 0, ErrNone},
		{at(0), []string{"000000-full"}, 10, nil},
		{at(4), []string{"000000-full", "000001-log", "000002-log", "000003-log"}, 30, nil},
		{at(7), []string{"000005-full", "000006-log"}, 50, nil},
		{at(9), nil, 0, ErrBroken}, // an older one is not what was asked for
		{Target{}, nil, 0, ErrBroken},
	} {
		got, rev, err := choose(ms, c.t)
		if !slices.Equal(ids(got), c.want) || rev != c.rev || !errors.Is(err, c.err) {
			t.Errorf("%v: %v at %d, %v", c.t, ids(got), rev, err)
		}
	}
	other := made(9, Full, "", 0, 12)
	other.Cluster = "2"
	if got, _, err := choose(append(ms, other), Target{Revision: 12}); err != nil || got[0].ID != other.ID {
		t.Errorf("a revision that two keyspaces have had: %v, %v", ids(got), err)
	}
	if _, err := chain([]Manifest{made(0, Full, "", 0, 9), ms[1]}, ms[1]); !errors.Is(err, ErrBroken) {
		t.Errorf("a log that goes on from another revision: %v", err)
	}
}

// TestExpired: whatever is there, the newest full backup stays, and so does what something that stays rests on; what
// goes goes before what it rests on.
func TestExpired(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	removed := 0
	for range 2000 {
		var ms []Manifest
		rev, last := int64(1), ""
		for minute := range r.IntN(30) {
			kind, since := Log, rev
			if rev += int64(r.IntN(3)); last == "" || r.IntN(5) == 0 {
				kind, since, last = Full, 0, ""
			}
			m := made(minute, kind, last, since, rev)
			last = m.ID
			if r.IntN(12) > 0 { // or it is lost
				ms = append(ms, m)
			}
		}
		k := Keep{Fulls: r.IntN(4), For: time.Duration(r.IntN(30)) * time.Minute}
		gone := expired(ms, k, day0.Add(time.Duration(r.IntN(60))*time.Minute))
		removed += len(gone)
		left := slices.Clone(ms)
		for _, m := range gone {
			for _, rests := range left {
				if rests.Parent == m.ID {
					t.Fatalf("%s goes before %s of %v, keep %+v", m.ID, rests.ID, ids(ms), k)
				}
			}
			left = slices.DeleteFunc(left, func(x Manifest) bool { return x.ID == m.ID })
		}
		full := ""
		for _, m := range ms {
			if m.Kind == Full {
				full = m.ID
			}
		}
		if _, ok := find(left, full); full != "" && !ok {
			t.Fatalf("the newest full backup goes, of %v, keep %+v", ids(ms), k)
		}
		if k == (Keep{}) && len(gone) > 0 {
			t.Fatalf("%v go without a bound", ids(gone))
		}
		fulls := 0
		for _, m := range left {
			if m.Kind == Full {
				fulls++
			}
		}
		if k.Fulls > 0 && fulls > k.Fulls {
			t.Fatalf("%d full backups stay of %v, keep %+v", fulls, ids(ms), k)
		}
	}
	if removed == 0 {
		t.Error("nothing was ever removed")
	}
}

// TestSchedule: a full backup comes first, and takes the place of a log that would be due with it.
func TestSchedule(t *testing.T) {
	at := func(minute int) time.Time { return day0.Add(time.Duration(minute) * time.Minute) }
	s := Schedule{Full: time.Hour, Log: 10 * time.Minute}
	for _, c := range []struct {
		s          Schedule
		full, last time.Time
		kind       string
		at         time.Time
	}{
		{s, time.Time{}, time.Time{}, Full, at(7)},
		{s, at(0), at(0), Log, at(10)},
		{s, at(0), at(49), Log, at(59)},
		{s, at(0), at(50), Full, at(60)},
		{Schedule{Full: time.Hour}, at(0), at(0), Full, at(60)},
	} {
		if kind, when := c.s.Next(c.full, c.last, at(7)); kind != c.kind || !when.Equal(c.at) {
			t.Errorf("%v, %v: %s at %v", c.full, c.last, kind, when)
		}
	}
	// A backup of the future, by a clock that was wrong.
	r := Runner{Now: func() time.Time { return at(7) }, full: at(1), last: at(2)}
	ms := []Manifest{made(600, Full, "", 0, 1), made(601, Log, "", 1, 1)}
	if full, last := r.times(ms); !full.Equal(at(1)) || !last.Equal(at(2)) {
		t.Errorf("backups of the future: %v, %v", full, last)
	}
}
