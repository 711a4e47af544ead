//go:build foundationdb

package foundationdb

import (
	"bytes"
	"context"

	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// WaitChange implements engine.Store by a watch. A client may have 10,000 watches; beyond that it polls.
func (s *Store) WaitChange(ctx context.Context, key, old []byte) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	err := s.waitChange(ctx, key, old)
	if err != nil && s.ctx.Err() != nil {
		return s.state()
	}
	return err
}

func (s *Store) waitChange(ctx context.Context, key, old []byte) error {
	tr, err := s.db.CreateTransaction() // watches need read-your-writes
	if err != nil {
		return wrap(err)
	}
	defer tr.Reset()
	k := s.key(key)
	f := tr.Snapshot().Get(k)
	g := watchOver(ctx, s.o.Timeout, f.Cancel)
	now, err := f.Get()
	g.release()
	if err != nil {
		return s.readErr(ctx, err)
	}
	if (now == nil) != (old == nil) || !bytes.Equal(now, old) {
		return nil
	}
	w := tr.Watch(k) // relative to what has just been read
	defer w.Cancel()
	if err := await(ctx, tr.Commit()); err != nil {
		return s.readErr(ctx, err)
	}
	switch err := await(ctx, w); codeOf(err) {
	case codeTooManyWatches, codeWatchCancelled:
		return retry.Sleep(ctx, watchPoll)
	default:
		if err != nil {
			return s.readErr(ctx, err)
		}
	}
	return nil
}
