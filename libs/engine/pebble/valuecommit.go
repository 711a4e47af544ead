package pebble

import (
	"bytes"
	"context"
	"fmt"
	"syscall"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/engine"
)

// commitOwn commits changes that no reader can tell: build adds them to the batch, with the writer lock held, so that
// the newest state is the one before this commit. It returns the batch's sequence number in Pebble: who reads at a
// later one sees the changes. It returns nil if build adds nothing. The commit is applied then, and not yet durable.
// Errors: ErrNoSpace, ErrUnavailable, ErrClosed, the context's, build's.
func (s *Store) commitOwn(ctx context.Context, build func(*pdb.Batch) error) (*commit, uint64, error) {
	if err := s.lockWriterOpen(ctx); err != nil {
		return nil, 0, err
	}
	defer s.wmu.Unlock()
	if err := s.err(); err != nil {
		return nil, 0, err
	}
	batch := &shared{batch: s.db.NewBatch()}
	batch.refs.Store(1) // publish drops it
	err := build(batch.batch)
	if err == nil && !batch.batch.Empty() {
		if err = s.space.admit(vital, len(batch.batch.Repr())); err != nil {
			err = fmt.Errorf("%w: %w", err, syscall.ENOSPC)
		}
	}
	if err != nil || batch.batch.Empty() {
		batch.release()
		return nil, 0, err
	}
	s.sign(batch.batch, s.seq+1)
	c := &commit{s: s, seq: s.seq + 1, last: s.version, batch: batch} // no repr: nobody waits for these changes
	snap, err := s.apply(batch.batch)
	if err != nil {
		return nil, 0, s.fail(fmt.Errorf("apply: %w", err)) // Pebble may still hold the batch
	}
	at := uint64(batch.batch.SeqNum())
	s.seq = c.seq
	c.view = newView(s, snap, c)
	s.admitOwn(c)
	return c, at, nil
}

// lockWriterOpen is lockWriter for work that Close waits for, with the writer lock held: it gives up then.
func (s *Store) lockWriterOpen(ctx context.Context) error {
	locked, gone := make(chan error), make(chan struct{})
	defer close(gone)
	go func() {
		err := s.lockWriter(ctx)
		select {
		case locked <- err:
		case <-gone:
			if err == nil {
				s.wmu.Unlock()
			}
		}
	}()
	select {
	case err := <-locked:
		return err
	case <-s.stop:
		return engine.ErrClosed
	case <-s.failed:
		return s.err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// admitOwn makes c the newest state. No transaction conflicts with it. The writer lock is held.
func (s *Store) admitOwn(c *commit) {
	c.view.refs.Add(1) // for s.applied
	s.mu.Lock()
	old := s.applied
	s.applied = c.view
	s.queue = append(s.queue, c)
	s.values.own.Add(1)
	if s.open.first != nil || !s.limits.Pipelined {
		s.window.add(&writeSet{seq: c.seq, built: true, free: func() {}})
	} else {
		s.window.skip(c.seq)
	}
	s.mu.Unlock()
	old.unref()
}

// users returns the number of the last commit but for the collector's own, and a reference to the state after it.
func (v *valueLog) users() (uint64, *view) {
	s := v.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.applied == nil {
		return 0, nil
	}
	s.applied.refs.Add(1)
	return s.applied.commit.seq - v.own.Load(), s.applied
}

// moved is a live value that is about to be in another place.
type moved struct {
	was []byte // the row's bytes
	old back   // in memory of its own
	now pointer
}

// move lets rows point to new places of their values, which are synced: all at once, and but for those that have been
// written meanwhile.
func (v *valueLog) move(ctx context.Context, values []moved) error {
	c, _, err := v.s.commitOwn(ctx, func(b *pdb.Batch) error {
		for i := range values {
			m := &values[i]
			raw, err := v.s.meta(m.old.row)
			if err != nil {
				return v.s.readError(err)
			}
			if bytes.Equal(raw, m.was) {
				v.point(b, m)
			}
		}
		return nil
	})
	if err != nil || c == nil {
		return err
	}
	return c.wait(ctx)
}

// point writes a row's new pointer and back row, and removes the old back row.
func (v *valueLog) point(b *pdb.Batch, m *moved) {
	raw := append(append(make([]byte, 0, pointerLen), v.tag...), kindPointer)
	_ = b.Set(m.old.row, m.now.append(raw), nil) // fails on indexed batches only
	value := append(appendBack(nil, int(m.now.length)), m.old.row...)
	_ = b.Set(backKey(m.now.file, m.now.offset), value, nil)
	_ = b.Delete(backKey(m.old.file, m.old.offset), nil)
}
