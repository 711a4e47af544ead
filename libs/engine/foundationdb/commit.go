//go:build foundationdb

package foundationdb

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// pending is a commit that is under way.
type pending struct {
	t      *txn
	commit fdb.FutureNil
	stamp  fdb.FutureKey // nil: no stamps
}

// nothing is the commit of a transaction without mutations. What the transaction has read is durable, because
// FoundationDB shows only durable data.
type nothing struct{}

// Wait implements engine.Pending.
func (nothing) Wait(context.Context) (engine.Stamp, error) { return engine.Stamp{}, nil }

// Commit implements engine.Txn.
func (t *txn) Commit(ctx context.Context) (engine.Pending, error) {
	if err := t.usable(ctx); err != nil {
		return nil, err
	}
	if t.size.Changes() > 0 {
		if err := t.ensureFence(); err != nil {
			return nil, err
		}
	}
	if err := t.fits(); err != nil {
		return nil, err
	}
	if t.size.Changes() == 0 {
		t.ended = true
		return nothing{}, nil
	}
	if t.use > 0 {
		if err := setOption(t.tr.Options(), optionFirstInBatch, nil); err != nil {
			return nil, fmt.Errorf("foundationdb: option FIRST_IN_BATCH: %w", err)
		}
	}
	if err := t.s.startCommit(); err != nil {
		return nil, err
	}
	t.ended = true
	p := &pending{t: t}
	if t.use > 0 {
		p.stamp = t.tr.GetVersionstamp()
	}
	p.commit = t.tr.Commit()
	return p, nil
}

// fenceRow begins the keys of rows that nobody writes. They stand in for the reads of a transaction that has read
// nothing.
const fenceRow = "\xfe\xfffence"

// ensureFence makes sure that the transaction has a read conflict at a key that settle can write.
func (t *txn) ensureFence() error {
	if t.fence != nil {
		return nil
	}
	t.fence = binary.BigEndian.AppendUint64(t.s.key([]byte(fenceRow)), rand.Uint64())
	if err := t.tr.AddReadConflictKey(t.fence); err != nil {
		return wrap(err)
	}
	t.size.ReadKey(len(t.fence))
	return nil
}

// Wait implements engine.Pending.
func (p *pending) Wait(ctx context.Context) (engine.Stamp, error) {
	s := p.t.s
	defer s.commits.Done()
	g := watchOver(ctx, 0, p.commit.Cancel)
	err := p.commit.Get()
	g.release()
	if err == nil {
		s.noteCommit(p.t.tr)
		var st engine.Stamp
		st, err = p.stamped()
		p.t.tr.Reset()
		return st, err
	}
	if ctx.Err() != nil && cancelled(err) {
		return engine.Stamp{}, ctx.Err()
	}
	switch outcomeOf(codeOf(err)) {
	case nothingHappened:
		p.t.tr.Reset()
		return engine.Stamp{}, wrap(err)
	case unknownOpen:
		if ferr := s.settle(ctx, p.t.fence); ferr != nil {
			return engine.Stamp{}, ferr
		}
	}
	return engine.Stamp{}, fmt.Errorf("%w: %w", engine.ErrUnknownOutcome, err)
}

// stamped returns the stamp of a commit that has happened. It fails the store if the commit is not the first of its
// batch.
func (p *pending) stamped() (engine.Stamp, error) {
	if p.stamp == nil {
		return engine.Stamp{}, nil
	}
	b, err := p.stamp.Get()
	if err == nil {
		var st engine.Stamp
		if st, err = parseVersionstamp(b); err == nil {
			return st, nil
		}
	}
	p.t.s.fail(err)
	return engine.Stamp{}, p.t.s.state()
}

// parseVersionstamp reads FoundationDB's versionstamp, which must have the batch order 0.
func parseVersionstamp(b []byte) (engine.Stamp, error) {
	if len(b) != engine.StampLen-2 {
		return engine.Stamp{}, fmt.Errorf("foundationdb: a versionstamp of %d bytes", len(b))
	}
	if order := binary.BigEndian.Uint16(b[8:]); order != 0 {
		return engine.Stamp{}, fmt.Errorf(
			"foundationdb: a commit has batch order %d although it asked to be the first of its batch: "+
				"this cluster does not honour FIRST_IN_BATCH, so revisions would not be unique",
			order,
		)
	}
	return engine.Stamp{Version: binary.BigEndian.Uint64(b)}, nil
}

// settle returns when a commit with a read conflict at key can no longer be under way. To make sure, it commits a write
// at key. It continues until ctx ends.
func (s *Store) settle(ctx context.Context, key fdb.Key) error {
	for {
		err := s.fence(ctx, key)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		s.o.Logger.Warn("cannot settle a commit yet", "err", err)
		_ = retry.Sleep(ctx, fencePause) // the next fence checks ctx
	}
}

// fence commits a write conflict at key. It tries again as long as the client library says that another attempt makes
// sense.
func (s *Store) fence(ctx context.Context, key fdb.Key) error {
	tr, err := s.db.CreateTransaction()
	if err != nil {
		return err
	}
	for {
		if err = tr.AddReadConflictKey(key); err == nil {
			err = tr.AddWriteConflictKey(key)
		}
		if err != nil {
			return err
		}
		if err = await(ctx, tr.Commit()); err == nil {
			return nil
		}
		if err := await(ctx, tr.OnError(fdb.Error{Code: codeOf(err)})); err != nil {
			return err
		}
	}
}

// await waits for a future, or until ctx ends.
func await(ctx context.Context, f fdb.FutureNil) error {
	g := watchOver(ctx, 0, f.Cancel)
	defer g.release()
	return f.Get()
}
