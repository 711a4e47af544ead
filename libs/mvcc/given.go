package mvcc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/headwaterdb/headwater/libs/engine"
)

// The revisions of a source are written with the stamps that stand for them, not with those of their commits. On an
// engine whose commits make the versions of stamps, both live in one keyspace: a given stamp is never above a version
// that the engine has already given out, so that whatever is committed afterwards lies above it.

// ErrAhead: a revision of the source stands for a version that the database has not come to yet.
var ErrAhead = errors.New("mvcc: the revisions of the source are ahead of the versions of the database")

// stamped returns the transaction that the group's rows are written to: txn itself, or what puts given stamps in the
// place of those that the commit would make.
func (g *group) stamped(txn engine.Txn) engine.Txn {
	n := len(g.entries)
	if n == 0 || g.entries[0].rev < 0 {
		return txn
	}
	if skip, ok := txn.(engine.StampSkipper); ok && g.s.limits.Dense {
		skip.SkipStamps(uint64(g.entries[n-1].rev))
	}
	return givenStamps{txn, g}
}

// givenStamps is a transaction whose stamps are those of the group's entries.
type givenStamps struct {
	engine.Txn
	g *group
}

// UseStamps implements engine.Txn.
func (givenStamps) UseStamps(int) {}

// SetStampedKey implements engine.Txn.
func (t givenStamps) SetStampedKey(key []byte, at int, value []byte) {
	t.fill(key[at:])
	t.Set(key, value)
}

// SetStampedValue implements engine.Txn.
func (t givenStamps) SetStampedValue(key, value []byte, at int) {
	t.fill(value[at:])
	t.Set(key, value)
}

// fill completes the stamp at the beginning of b, whose index says of which entry it is. The caller's scratch buffer is
// what is changed.
func (t givenStamps) fill(b []byte) {
	i := binary.BigEndian.Uint16(b[engine.StampLen-2:])
	t.g.s.meta.Space.Stamp(t.g.entries[i].rev).Append(b[:0])
}

// last is the last revision at this place of the group, pending ones as num has them.
func (g *group) last() int64 {
	n := len(g.entries)
	if n == 0 {
		return g.head
	}
	if rev := g.entries[n-1].rev; rev >= 0 {
		return rev
	}
	return g.head + int64(n)
}

// versions is what a Store knows of the versions that the engine has given out.
type versions struct{ seen atomic.Uint64 }

// admitGiven returns nil if a revision may be given: the engine has given out its version, or a later one. Errors:
// ErrAhead, ErrUnavailable, the context's.
func (s *Store) admitGiven(ctx context.Context, rev int64) error {
	if s.limits.Dense {
		return nil
	}
	need := s.meta.Space.Stamp(rev).Version
	if s.versions.seen.Load() >= need {
		return nil
	}
	v, err := s.newVersion(ctx)
	if err != nil {
		return err
	}
	s.versions.seen.Store(v)
	if v < need {
		return fmt.Errorf("%w: revision %d stands for version %d, and it is at %d; wait, or advance it with fdbcli: "+
			"advanceversion %d", ErrAhead, rev, need, v, need+1)
	}
	return nil
}

// newVersion has the engine give out a version.
func (s *Store) newVersion(ctx context.Context) (v uint64, err error) {
	again := func(err error) bool { return engine.ClassOf(err).RerunIdempotent() }
	err = updates.Do(ctx, again, func() error {
		v, err = s.tryNewVersion(ctx)
		return err
	})
	return v, storeErr(err)
}

func (s *Store) tryNewVersion(ctx context.Context) (uint64, error) {
	txn, err := s.eng.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer txn.Discard()
	txn.Clear(s.rows.meta(metaPush)) // a transaction that changes nothing has no stamp
	txn.UseStamps(1)
	p, err := txn.Commit(ctx)
	if err != nil {
		return 0, err
	}
	st, err := p.Wait(ctx)
	return st.Version, err
}
