package mvcc_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// copyOf makes a store that follows s, as s was at a revision.
func copyOf(t *testing.T, s *mvcc.Store, rev int64, o mvcc.Options) (engine.Store, *mvcc.Store) {
	t.Helper()
	return copyOn(t, openEngine(t, pebble.Options{}), s, rev, o)
}

// copyOn is copyOf on an engine.
func copyOn(t *testing.T, e engine.Store, s *mvcc.Store, rev int64, o mvcc.Options) (engine.Store, *mvcc.Store) {
	t.Helper()
	im, err := mvcc.NewImport(t.Context(), e, mvcc.ImportOptions{
		Prefix: o.Prefix, Compact: -1, Follow: &mvcc.Follow{Source: 7}, Head: rev,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range revisionsOf(t, s, 0) {
		for i := range r.Events {
			if r.Rev > rev {
				break
			}
			if err := im.Add(t.Context(), r.Rev, &r.Events[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := im.Finish(t.Context(), rev, nil); err != nil {
		t.Fatal(err)
	}
	return e, open(t, e, o)
}

// revisionsOf are those of a store after a revision.
func revisionsOf(t *testing.T, s *mvcc.Store, after int64) (revs []mvcc.ReplayRevision) {
	t.Helper()
	d, err := s.BeginDump(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	last := int64(1)
	err = d.Events(t.Context(), func(e *revlog.Entry) error {
		r := mvcc.ReplayRevision{Rev: e.Rev, After: last}
		last = e.Rev
		for _, ev := range e.Events {
			kv := ev.KV
			kv.Key, kv.Value, kv.Place, kv.Size = bytes.Clone(kv.Key), bytes.Clone(kv.Value), 0, 0
			r.Events = append(r.Events, revlog.Event{Delete: ev.Delete, KV: kv})
		}
		if e.Rev > after {
			revs = append(revs, r)
		}
		return nil
	})
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	return revs
}

// write sends random requests, such that keys come and go, on leases and not, with values of all kinds of sizes.
func write(t *testing.T, r *rand.Rand, s *mvcc.Store, n int) {
	t.Helper()
	key := func() []byte { return fmt.Appendf(nil, "k%02d", r.IntN(20)) }
	value := func() []byte { return []byte(strings.Repeat("v", r.IntN(3)*r.IntN(2000))) }
	for range n {
		var err error
		switch r.IntN(5) {
		case 0:
			k := key()
			_, err = s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: k, End: append(k, 'x')})
		case 1:
			a, b := key(), key()
			ops := []mvcc.Op{{Put: &mvcc.PutRequest{Key: a, Value: value()}}}
			if !bytes.Equal(a, b) {
				ops = append(ops, mvcc.Op{Delete: &mvcc.DeleteRequest{Key: b}})
			}
			_, err = s.Txn(t.Context(), &mvcc.TxnRequest{Success: ops})
		default:
			_, err = s.Put(t.Context(), &mvcc.PutRequest{Key: key(), Value: value(), Lease: int64(r.IntN(3))})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFollow: a copy that is made in the middle and follows has every key at every revision, over restarts and whatever
// is replayed twice, and then goes on by itself.
func TestFollow(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to pebble.Options
	}{
		{"alone", pebble.Options{}, pebble.Options{}},
		{"to pods", pebble.Options{}, fdb},
		{"of pods", fdb, pebble.Options{}},
		{"between pods", fdb, fdb},
	} {
		t.Run(c.name, func(t *testing.T) { testFollow(t, c.from, c.to) })
	}
}

func testFollow(t *testing.T, from, to pebble.Options) {
	seed := seed(t)
	r := rand.New(rand.NewPCG(seed, 1))
	from.Seed, to.Seed = seed, seed+1
	src := open(t, openEngine(t, from), mvcc.Options{})
	for id := int64(1); id < 3; id++ {
		if _, err := src.LeaseGrant(t.Context(), id, 10*id, nil); err != nil {
			t.Fatal(err)
		}
	}
	write(t, r, src, 60)
	at, err := src.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o := mvcc.Options{Prefix: []byte("p")}
	e := openEngine(t, to)
	age(t, e, at)
	_, s := copyOn(t, e, src, at, o)
	for range 4 {
		write(t, r, src, 40)
		head, err := s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		revs := revisionsOf(t, src, 0)
		for len(revs) > 5 && revs[r.IntN(5)].Rev <= head { // some of them are there
			revs = revs[1:]
		}
		age(t, e, revs[len(revs)-1].Rev)
		for len(revs) > 0 {
			n := min(len(revs), 1+r.IntN(20))
			got, err := s.Replay(t.Context(), revs[:n])
			if err != nil || got != max(head, revs[n-1].Rev) {
				t.Fatalf("up to %d: %d, %v", revs[n-1].Rev, got, err)
			}
			revs = revs[n:]
		}
		sameStores(t, src, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, e, o)
		if !s.Following() {
			t.Fatal("it does not follow after a restart")
		}
	}
	endFollow(t, src, e, s, o)
}

// endFollow ends the following, and has the store go on.
func endFollow(t *testing.T, src *mvcc.Store, e engine.Store, s *mvcc.Store, o mvcc.Options) {
	t.Helper()
	head, err := src.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leases := []mvcc.ImportLease{{ID: 1, TTL: 10}, {ID: 2, TTL: 20}, {ID: 3, TTL: 30}}
	if err := s.EndFollow(t.Context(), head-1, leases); !errors.Is(err, mvcc.ErrGap) {
		t.Errorf("ended at another revision: %v", err)
	}
	for range 2 { // the second time finds it done
		if err := s.EndFollow(t.Context(), head, leases); err != nil {
			t.Fatal(err)
		}
	}
	<-s.FollowEnded()
	want := map[int64]int64{1: 10, 2: 20, 3: 30}
	if got := leasesOf(t, s); !maps.Equal(got, want) {
		t.Errorf("leases %v", got)
	}
	if _, err := s.Replay(t.Context(), []mvcc.ReplayRevision{{Rev: head + 1}}); !errors.Is(err, mvcc.ErrNotFollowing) {
		t.Errorf("replayed afterwards: %v", err)
	}
	res, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("next"), Lease: 3})
	if err != nil || res.Rev <= head || e.Limits().Dense && res.Rev != head+1 {
		t.Errorf("the next revision after %d: %+v, %v", head, res, err)
	}
	if err := s.EndFollow(t.Context(), head, nil); !errors.Is(err, mvcc.ErrNotFollowing) {
		t.Errorf("ended once more: %v", err)
	}
	check(t, e, s, o.Prefix, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = open(t, e, o); s.Following() {
		t.Error("it follows after a restart")
	}
}

// sameStores compares two stores at every revision.
func sameStores(t *testing.T, a, b *mvcc.Store) {
	t.Helper()
	head, err := a.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Head(t.Context())
	if err != nil || other != head {
		t.Fatalf("head %d, not %d, %v", other, head, err)
	}
	for _, r := range revisionsOf(t, a, 0) {
		rev := r.Rev
		all := &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, Rev: rev}
		want, _ := collect(t, a, all)
		got, _ := collect(t, b, all)
		if !slices.EqualFunc(want, got, func(x, y mvcc.KV) bool {
			return bytes.Equal(x.Key, y.Key) && bytes.Equal(x.Value, y.Value) && x.Create == y.Create &&
				x.Mod == y.Mod && x.Version == y.Version && x.Lease == y.Lease
		}) {
			t.Fatalf("revision %d: %v, want %v", rev, got, want)
		}
	}
}

// TestFollowRefusals: a keyspace that follows takes nothing of its own, and nothing that cannot come from its source.
func TestFollowRefusals(t *testing.T) {
	src := open(t, openEngine(t, pebble.Options{}), mvcc.Options{})
	put(t, src, "a", "1")
	if _, err := src.LeaseGrant(t.Context(), 1, 10, nil); err != nil {
		t.Fatal(err)
	}
	head := put(t, src, "b", "2")
	e, s := copyOf(t, src, head, mvcc.Options{})
	for name, f := range map[string]func() error{
		"put": func() error { _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("a")}); return err },
		"delete": func() error {
			_, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("a")})
			return err
		},
		"delete of nothing": func() error {
			_, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("x")})
			return err
		},
		"transaction": func() error {
			ops := []mvcc.Op{{Put: &mvcc.PutRequest{Key: []byte("a")}}}
			_, err := s.Txn(t.Context(), &mvcc.TxnRequest{Success: ops})
			return err
		},
		"grant":    func() error { _, err := s.LeaseGrant(t.Context(), 5, 10, nil); return err },
		"revoke":   func() error { _, err := s.LeaseRevoke(t.Context(), 1, nil); return err },
		"compact":  func() error { _, err := s.Compact(t.Context(), head, false); return err },
		"add user": func() error { _, err := s.UpdateAuth(t.Context(), nextAuth); return err },
	} {
		if err := f(); !errors.Is(err, mvcc.ErrFollowing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	kv := func(key string, create, version int64) revlog.Event {
		return revlog.Event{KV: mvcc.KV{Key: []byte(key), Create: create, Version: version}}
	}
	gone := func(key string) revlog.Event { return revlog.Event{Delete: true, KV: mvcc.KV{Key: []byte(key)}} }
	next := head + 1
	for name, c := range map[string]struct {
		rev    int64
		events []revlog.Event
		want   error
	}{
		"a gap":            {next + 1, []revlog.Event{kv("c", next+1, 1)}, mvcc.ErrGap},
		"no event":         {next, nil, mvcc.ErrGap},
		"another version":  {next, []revlog.Event{kv("a", 2, 3)}, mvcc.ErrDiverged},
		"another creation": {next, []revlog.Event{kv("a", 3, 2)}, mvcc.ErrDiverged},
		"made anew":        {next, []revlog.Event{kv("a", next, 1)}, mvcc.ErrDiverged},
		"not made anew":    {next, []revlog.Event{kv("c", 2, 2)}, mvcc.ErrDiverged},
		"gone":             {next, []revlog.Event{gone("c")}, mvcc.ErrDiverged},
		"twice":            {next, []revlog.Event{kv("a", 2, 2), gone("a")}, mvcc.ErrDiverged},
		"no name":          {next, []revlog.Event{kv("", next, 1)}, mvcc.ErrDiverged},
	} {
		// The one before is good: nothing of it may be left.
		good := mvcc.ReplayRevision{Rev: next, Events: []revlog.Event{kv("good", next, 1)}}
		bad := mvcc.ReplayRevision{Rev: c.rev, Events: slices.Clone(c.events)}
		if _, err := s.Replay(t.Context(), []mvcc.ReplayRevision{bad}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		bad.Rev++
		for i := range bad.Events {
			if ev := &bad.Events[i]; ev.KV.Create >= next {
				ev.KV.Create++
			}
		}
		if _, err := s.Replay(t.Context(), []mvcc.ReplayRevision{good, bad}); !errors.Is(err, c.want) {
			t.Errorf("%s, behind another: %v", name, err)
		}
	}
	if now, err := s.Head(t.Context()); err != nil || now != head {
		t.Errorf("the head is %d, %v", now, err)
	}
	check(t, e, s, nil, false)
}

// nextAuth is a change of users and roles.
func nextAuth(number uint64, _ []mvcc.AuthRow) (uint64, []mvcc.AuthRow, error) {
	return number + 2, []mvcc.AuthRow{{Key: []byte("rx"), Value: []byte("x")}}, nil
}

// TestFollowRow: what a keyspace says of its source, and its users and roles, change while it follows, and only then.
func TestFollowRow(t *testing.T) {
	src := open(t, openEngine(t, pebble.Options{}), mvcc.Options{})
	e, s := copyOf(t, src, 1, mvcc.Options{})
	err := s.SetFollow(t.Context(), func(f *mvcc.Follow) error { f.Compared = 1; return nil })
	if err != nil {
		t.Fatal(err)
	}
	f, rev, err := s.ReadFollow(t.Context())
	if err != nil || rev != 1 || f != (mvcc.Follow{Source: 7, Compared: 1}) {
		t.Errorf("%+v at %d, %v", f, rev, err)
	}
	if _, err := s.FollowAuth(t.Context(), nextAuth); err != nil {
		t.Error(err)
	}
	if number, rows, _, err := s.ReadAuth(t.Context()); err != nil || number != 4 || len(rows) != 1 {
		t.Errorf("%d, %v, %v", number, rows, err)
	}
	secret := func(number uint64, _ []mvcc.AuthRow) (uint64, []mvcc.AuthRow, error) {
		return number, []mvcc.AuthRow{{Key: []byte("s"), Value: []byte("x")}}, nil
	}
	if _, err := s.UpdateAuth(t.Context(), secret); err != nil {
		t.Errorf("a secret: %v", err)
	}
	if err := s.EndFollow(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.ReadFollow(t.Context()); !errors.Is(err, mvcc.ErrNotFollowing) {
		t.Error(err)
	}
	if err := s.SetFollow(t.Context(), func(*mvcc.Follow) error { return nil }); !errors.Is(err, mvcc.ErrNotFollowing) {
		t.Error(err)
	}
	if _, err := s.FollowAuth(t.Context(), nextAuth); !errors.Is(err, mvcc.ErrNotFollowing) {
		t.Error(err)
	}
	if _, err := s.UpdateAuth(t.Context(), nextAuth); err != nil {
		t.Error(err)
	}
	check(t, e, s, nil, false)
}

// TestFollowEndOvertakes: a replay that is about to commit when the following ends happens not at all.
func TestFollowEndOvertakes(t *testing.T) {
	src := open(t, openEngine(t, pebble.Options{}), mvcc.Options{})
	head := put(t, src, "a", "1")
	e, first := copyOf(t, src, head, mvcc.Options{})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	held, arm, entered, release := holdCommit()
	s := open(t, faults.New(e, held), mvcc.Options{})
	put(t, src, "a", "2")
	arm()
	replayed := make(chan error, 1)
	revs := revisionsOf(t, src, head)
	go func() { _, err := s.Replay(t.Context(), revs); replayed <- err }()
	<-entered
	err := s.EndFollow(t.Context(), head, nil)
	close(release)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-replayed; !errors.Is(err, mvcc.ErrNotFollowing) {
		t.Errorf("replayed: %v", err)
	}
	if rev := put(t, s, "b", "own"); rev != head+1 {
		t.Errorf("the next revision is %d", rev)
	}
	check(t, e, s, nil, false)
}

// BenchmarkReplay replays fresh keys of 1 KiB, one in a revision.
func BenchmarkReplay(b *testing.B) {
	e := openEngine(b, pebble.Options{})
	im, err := mvcc.NewImport(b.Context(), e, mvcc.ImportOptions{Compact: -1, Follow: &mvcc.Follow{}})
	if err == nil {
		err = im.Finish(b.Context(), 1, nil)
	}
	if err != nil {
		b.Fatal(err)
	}
	s := open(b, e, mvcc.Options{})
	value := make([]byte, 1024)
	rev := int64(1)
	for b.Loop() {
		var revs []mvcc.ReplayRevision
		for range 1000 {
			rev++
			key := fmt.Appendf(nil, "key-%09d", rev*7919%1_000_000_007)
			kv := mvcc.KV{Key: key, Value: value, Create: rev, Version: 1}
			revs = append(revs, mvcc.ReplayRevision{Rev: rev, Events: []revlog.Event{{KV: kv}}})
		}
		if _, err := s.Replay(b.Context(), revs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rev), "ns/revision")
}
