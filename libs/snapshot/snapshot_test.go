package snapshot_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

func seed(t *testing.T) uint64 {
	t.Helper()
	s := rand.Uint64N(1 << 32)
	t.Logf("seed %d", s)
	return s
}

// save makes a file as a client has it.
func save(t testing.TB, s *mvcc.Store, rev int64) string {
	t.Helper()
	d, err := s.BeginDump(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	return write(t, d)
}

func write(t testing.TB, d *mvcc.Dump) string {
	t.Helper()
	return writeUsers(t, d, nil)
}

func writeUsers(t testing.TB, d *mvcc.Dump, users func(context.Context) (snapshot.Auth, error)) string {
	t.Helper()
	dir := t.TempDir()
	f, err := snapshot.Write(t.Context(), d, snapshot.Options{
		Dir: dir, Reserve: -1, Member: snapshot.Member{ID: 7, Name: "default"}, Auth: users,
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f.Reader())
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Fatalf("%v is left, %v", left, err)
	}
	sum := sha256.Sum256(b)
	path := filepath.Join(dir, "db")
	if err := os.WriteFile(path, append(b, sum[:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func reader(t testing.TB, path string) *snapshot.Reader {
	t.Helper()
	r, err := snapshot.Open(t.Context(), path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// restore makes a keyspace of a file.
func restore(t testing.TB, path string, o snapshot.RestoreOptions) (*mvcc.Store, engine.Store) {
	t.Helper()
	e := dense(t)
	if _, err := snapshot.Restore(t.Context(), reader(t, path), e, o); err != nil {
		t.Fatal(err)
	}
	return open(t, e), e
}

// TestRoundTrip: what a file is made of, and what becomes of it, is the same keyspace at every revision that is left,
// from either engine, and can go on.
func TestRoundTrip(t *testing.T) {
	for name, openEngine := range engines {
		t.Run(name, func(t *testing.T) {
			seed := seed(t)
			for round := range uint64(6) {
				from := openEngine(t, seed+round)
				g := &traffic{Rand: rand.New(rand.NewPCG(seed, round)), s: open(t, from)}
				for range 80 {
					g.step(t, round > 0)
				}
				want := pictureOf(t, g.s)
				aging(from, true)
				path := save(t, g.s, 0)
				aging(from, false)
				s, e := restore(t, path, snapshot.RestoreOptions{})
				clean(t, e)
				same(t, "restored", want, pictureOf(t, s))
				if put, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("next")}); err != nil ||
					put.Rev != want.Head+1 {
					t.Fatalf("the next revision is %d, %v", put.Rev, err)
				}
				more := &traffic{Rand: g.Rand, s: s, leases: g.leases}
				for range 40 {
					more.step(t, true)
				}
				head, err := s.Head(t.Context())
				if err == nil {
					_, err = s.Compact(t.Context(), head, true)
				}
				if err != nil && !errors.Is(err, mvcc.ErrCompacted) {
					t.Fatal(err)
				}
				clean(t, e)
			}
		})
	}
}

// TestWhileWritten: a file is the keyspace at its revision, whatever is written, deleted and compacted while it is
// made. What a compaction would remove is there until the end, and goes then.
func TestWhileWritten(t *testing.T) {
	for name, openEngine := range engines {
		t.Run(name, func(t *testing.T) {
			seed := seed(t)
			from := openEngine(t, seed)
			s := open(t, from)
			g := &traffic{Rand: rand.New(rand.NewPCG(seed, 0)), s: s}
			for range 60 {
				g.step(t, true)
			}
			want := pictureOf(t, s)
			d, err := s.BeginDump(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			for range 60 {
				g.step(t, false)
			}
			head, err := s.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Compact(t.Context(), head, true); err != nil {
				t.Fatal(err)
			}
			aging(from, true)
			path := write(t, d)
			aging(from, false)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			got, e := restore(t, path, snapshot.RestoreOptions{})
			clean(t, e)
			after := pictureOf(t, got)
			for id, ttl := range after.Leases { // revoked since, or still as it was
				if ttl == mvcc.LeaseGone && want.Leases[id] > 0 {
					after.Leases[id] = want.Leases[id]
				}
			}
			// Those without keys may have come and gone.
			for id := range want.Leases {
				if len(want.LeaseKeys[id]) == 0 {
					delete(want.Leases, id)
					delete(want.LeaseKeys, id)
				}
			}
			for id := range after.Leases {
				if len(after.LeaseKeys[id]) == 0 {
					delete(after.Leases, id)
					delete(after.LeaseKeys, id)
				}
			}
			same(t, "at the revision of the dump", want, after)
		})
	}
}

// TestPastRevision: a file of a past revision is that keyspace then.
func TestPastRevision(t *testing.T) {
	seed := seed(t)
	s := open(t, dense(t))
	g := &traffic{Rand: rand.New(rand.NewPCG(seed, 0)), s: s}
	for range 100 {
		g.step(t, false)
	}
	want := pictureOf(t, s)
	past := want.Log[len(want.Log)/2].Rev
	r := reader(t, save(t, s, past))
	if r.Revision != past {
		t.Fatalf("revision %d, want %d", r.Revision, past)
	}
	got, _ := restore(t, save(t, s, past), snapshot.RestoreOptions{})
	p := pictureOf(t, got)
	for rev, state := range p.States {
		same(t, "a state", picture{States: map[int64][]mvcc.KV{rev: want.States[rev]}},
			picture{States: map[int64][]mvcc.KV{rev: state}})
	}
	if _, err := s.BeginDump(t.Context(), want.Head+1); !errors.Is(err, mvcc.ErrFutureRevision) {
		t.Errorf("a future revision: %v", err)
	}
	if _, err := s.Compact(t.Context(), past+1, true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.BeginDump(t.Context(), past); !errors.Is(err, mvcc.ErrCompacted) {
		t.Errorf("a compacted revision: %v", err)
	}
}

// TestBump: the revision moves on, and nothing of before can be read or watched.
func TestBump(t *testing.T) {
	seed := seed(t)
	s := open(t, dense(t))
	g := &traffic{Rand: rand.New(rand.NewPCG(seed, 0)), s: s}
	for range 100 {
		g.step(t, true)
	}
	want := pictureOf(t, s)
	got, e := restore(t, save(t, s, 0), snapshot.RestoreOptions{Bump: 1000, MarkCompacted: true})
	clean(t, e)
	p := pictureOf(t, got)
	if p.Head != want.Head+1000 || p.Compact != p.Head || len(p.Log) != 0 {
		t.Fatalf("head %d, compacted %d, %d entries", p.Head, p.Compact, len(p.Log))
	}
	same(t, "the newest state", picture{States: map[int64][]mvcc.KV{1: want.States[want.Head]}},
		picture{States: map[int64][]mvcc.KV{1: p.States[p.Head]}})
	for _, o := range []snapshot.RestoreOptions{{Bump: 1}, {MarkCompacted: true}, {Bump: -1, MarkCompacted: true}} {
		if _, err := snapshot.Restore(t.Context(), reader(t, save(t, s, 0)), dense(t), o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// TestEmpty: a keyspace without a key, and one whose keys are gone, keep their revisions.
func TestEmpty(t *testing.T) {
	s := open(t, dense(t))
	for _, compact := range []bool{false, true} {
		if compact {
			for _, key := range []string{"a", "b"} {
				if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte(key)}); err != nil {
					t.Fatal(err)
				}
			}
			d, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte{0}, End: []byte{0}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Compact(t.Context(), d.Rev, true); err != nil {
				t.Fatal(err)
			}
		}
		got, e := restore(t, save(t, s, 0), snapshot.RestoreOptions{})
		clean(t, e)
		same(t, "empty", pictureOf(t, s), pictureOf(t, got))
	}
}

// TestHoldsAreBounded: readers of the history are few, and each lets go of it.
func TestHoldsAreBounded(t *testing.T) {
	s := open(t, dense(t))
	var open []*mvcc.Dump
	var err error
	for err == nil {
		var d *mvcc.Dump
		if d, err = s.BeginDump(t.Context(), 0); err == nil {
			open = append(open, d)
		}
	}
	if !errors.Is(err, mvcc.ErrTooManyRequests) || len(open) == 0 || len(open) > 100 {
		t.Errorf("%d dumps, then %v", len(open), err)
	}
	for _, d := range open {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	d, err := s.BeginDump(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Events(t.Context(), func(*revlog.Entry) error { return nil }); !errors.Is(err, mvcc.ErrHoldLost) {
		t.Errorf("without its hold: %v", err)
	}
}
