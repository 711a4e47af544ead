package mvcc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/headwaterdb/headwater/libs/engine"
)

// A keyspace with FeatureFollows is a copy of another one that is still being written. The changes there are replayed
// here, revision by revision (Replay), until EndFollow makes it a keyspace like any other. Until then, every other
// request that would make a revision, change a lease or compact fails with ErrFollowing, in its transaction. Reads go
// on. The row meta/follow names the source.

// Errors about keyspaces that follow.
var (
	// ErrFollowing: the keyspace follows another one, and takes no writes of its own.
	ErrFollowing = errors.New("mvcc: the keyspace follows another one and takes no writes yet")
	// ErrNotFollowing: the keyspace does not follow another one, or does not any more.
	ErrNotFollowing = errors.New("mvcc: the keyspace does not follow another one")
	// ErrGap: a replayed revision is not the next one.
	ErrGap = errors.New("mvcc: a replayed revision is not the next one")
	// ErrDiverged: a replayed event cannot come from the source of the keyspace.
	ErrDiverged = errors.New("mvcc: the keyspace is not a copy of its source")
)

// metaFollow is the name of the row of a keyspace that follows.
const metaFollow = "follow"

// followFormat and followLen are the format and the length of that row: format (1), source (8), compared revision (8).
const (
	followFormat = 1
	followLen    = 1 + 8 + 8
)

// Follow is what a following keyspace stores about its source.
type Follow struct {
	// Source is the cluster id of the source; 0: not known yet.
	Source uint64
	// Compared is the last revision at which both were compared in full and were equal; 0: none.
	Compared int64
}

func (f *Follow) append(b []byte) []byte {
	return appendRev(binary.BigEndian.AppendUint64(append(b, followFormat), f.Source), f.Compared)
}

// parseFollow reads the row. An import writes it, and it exists while the feature is set.
func parseFollow(row []byte) (f Follow, err error) {
	if len(row) != followLen || row[0] != followFormat {
		return f, ErrCorrupt
	}
	f.Source, f.Compared = binary.BigEndian.Uint64(row[1:]), int64(binary.BigEndian.Uint64(row[9:]))
	return f, nil
}

// following is what a Store knows about the feature. It is a hint for planning work; transactions check for themselves.
type following struct {
	is    atomic.Bool
	once  sync.Once
	ended chan struct{}
}

func (f *following) init(features Features) {
	f.ended = make(chan struct{})
	if f.is.Store(features.Has(FeatureFollows)); !f.is.Load() {
		f.end()
	}
}

func (f *following) end() {
	f.is.Store(false)
	f.once.Do(func() { close(f.ended) })
}

// Following says whether the keyspace follows another one, as far as this Store knows.
func (s *Store) Following() bool { return s.follow.is.Load() }

// FollowEnded returns a channel that is closed when the keyspace does not follow another one, or does not any more.
func (s *Store) FollowEnded() <-chan struct{} { return s.follow.ended }

// awaitFollowEnd learns of it when another process has ended the following, until ctx ends.
func (s *Store) awaitFollowEnd(ctx context.Context) {
	name := s.rows.meta(metaFollow)
	for failures := 0; ctx.Err() == nil && s.follow.is.Load(); {
		var row []byte
		err := s.view(ctx, func(snap engine.Snapshot) (err error) {
			row, err = snap.Get(ctx, name)
			row = bytes.Clone(row)
			return err
		})
		if err == nil && row == nil {
			s.follow.end()
			return
		}
		if err == nil {
			err = s.eng.WaitChange(ctx, name, row)
		}
		if failures++; err == nil {
			failures = 0
			continue
		}
		pause(ctx, min(failures, unavailableMax))
	}
}

// admitFollowing refuses what a keyspace that follows does not take, and replays elsewhere.
func (g *group) admitFollowing(m mutation) error {
	_, replays := m.(*replay)
	switch follows := g.features.Has(FeatureFollows); {
	case follows && !replays:
		return ErrFollowing
	case replays && !follows:
		return ErrNotFollowing
	}
	return nil
}

// ReadFollow returns what the keyspace stores about its source, and the head. Errors: ErrNotFollowing, ErrUnavailable,
// ErrCorrupt, the context's.
func (s *Store) ReadFollow(ctx context.Context) (f Follow, rev int64, err error) {
	err = s.view(ctx, func(snap engine.Snapshot) error {
		if rev, err = s.headOf(ctx, snap); err != nil {
			return err
		}
		row, err := snap.Get(ctx, s.rows.meta(metaFollow))
		if err != nil {
			return err
		}
		if row == nil {
			return ErrNotFollowing
		}
		f, err = parseFollow(row)
		return err
	})
	return f, rev, err
}

// SetFollow changes what the keyspace stores about its source. change may be called several times. Errors: change's,
// ErrNotFollowing, ErrUnavailable, the context's.
func (s *Store) SetFollow(ctx context.Context, change func(*Follow) error) error {
	return s.update(ctx, func(txn engine.Txn) error {
		name := s.rows.meta(metaFollow)
		row, err := txn.Get(ctx, name)
		if err != nil {
			return err
		}
		if row == nil {
			return ErrNotFollowing
		}
		f, err := parseFollow(row)
		if err == nil {
			err = change(&f)
		}
		if err == nil {
			txn.Set(name, f.append(nil))
		}
		return err
	})
}

// EndFollow makes a following keyspace one that takes writes, if its head is rev. It replaces the keyspace's leases by
// those given. If the keyspace does not follow any more, and is at rev, it does nothing. Errors: ErrNotFollowing,
// ErrGap (the head differs), ErrNoSpace, ErrUnavailable, the context's.
func (s *Store) EndFollow(ctx context.Context, rev int64, leases []ImportLease) error {
	if err := s.settleMany(ctx, leases); err != nil {
		return err
	}
	var features Features
	var grown int64
	err := s.update(ctx, func(txn engine.Txn) error {
		rows, err := txn.GetMany(ctx, [][]byte{s.rows.meta(metaKeyspace), s.headRow, s.rows.meta(metaFollow)})
		if err != nil {
			return err
		}
		var st engine.Stamp
		if st, features, err = parseHeadRow(rows[1]); err != nil {
			return err
		}
		switch head := s.meta.Space.Of(st); {
		case rows[2] == nil && head == rev: // an earlier run has been committed
			return errNothing
		case rows[2] == nil:
			return ErrNotFollowing
		case head != rev:
			return ErrGap
		case features.Has(FeatureParts): // a later revision has been begun
			return ErrGap
		}
		features &^= FeatureFollows
		meta, err := metaWith(rows[0], features)
		if err != nil {
			return err
		}
		if grown, err = s.settleLast(ctx, txn, features, leases); err != nil {
			return err
		}
		head, _ := headRow(features, st)
		txn.Set(s.headRow, head)
		txn.Set(s.rows.meta(metaKeyspace), meta)
		txn.Clear(s.rows.meta(metaFollow))
		s.overtake(txn)
		return nil
	})
	switch {
	case err == nil:
		s.grew(features, grown)
	case !errors.Is(err, errNothing):
		return err
	}
	s.follow.end()
	return nil
}
