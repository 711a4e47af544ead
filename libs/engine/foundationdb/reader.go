//go:build foundationdb

package foundationdb

import (
	"context"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
)

// reader reads at one version. Snapshots share the handle; a transaction has its own.
type reader struct {
	s          *Store
	tr         fdb.Transaction
	version    uint64
	noConflict bool // a snapshot
	ended      bool
}

// snapshot is an engine.Snapshot.
type snapshot struct{ reader }

// Close implements engine.Snapshot.
func (r *snapshot) Close() { r.ended = true }

// Version implements engine.Reader.
func (r *reader) Version() uint64 { return r.version }

func (r *reader) usable(ctx context.Context) error {
	if r.ended {
		return errEnded
	}
	return r.s.usable(ctx)
}

// get requests the value of a key under the root.
func (r *reader) get(key fdb.Key, noConflict bool) fdb.FutureByteSlice {
	if noConflict {
		return r.tr.Snapshot().Get(key)
	}
	return r.tr.Get(key)
}

// Get implements engine.Reader.
func (r *reader) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := r.usable(ctx); err != nil {
		return nil, err
	}
	f := r.get(r.s.key(key), r.noConflict)
	g := watchOver(ctx, r.s.o.Timeout, f.Cancel)
	defer g.release()
	value, err := f.Get()
	if err != nil {
		return nil, r.s.readErr(ctx, err)
	}
	return value, nil
}

// GetMany implements engine.Reader. It starts all reads before it waits for the first.
func (r *reader) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	if err := r.usable(ctx); err != nil || len(keys) == 0 {
		return nil, err
	}
	futures := make([]fdb.FutureByteSlice, len(keys))
	for i, key := range keys {
		futures[i] = r.get(r.s.key(key), r.noConflict)
	}
	g := watchOver(ctx, r.s.o.Timeout, func() {
		for _, f := range futures {
			f.Cancel()
		}
	})
	defer g.release()
	values := make([][]byte, len(keys))
	for i, f := range futures {
		var err error
		if values[i], err = f.Get(); err != nil {
			return nil, r.s.readErr(ctx, err)
		}
	}
	return values, nil
}

// Scan implements engine.Reader. The first batch is on its way when it returns.
func (r *reader) Scan(ctx context.Context, q engine.Range) engine.Iterator {
	it := &iterator{r: r, ctx: ctx, at: -1}
	if it.err = r.usable(ctx); it.err != nil {
		return it
	}
	span, ok := r.s.span(q.Begin, q.End)
	if !ok {
		return it
	}
	noConflict := r.noConflict || q.NoConflict
	if q.OneKey() {
		begin := span.Begin.FDBKey()
		it.key, it.value = begin, r.get(begin, noConflict) // costs the servers less than a range
		return it
	}
	o := fdb.RangeOptions{Limit: q.Limit, Reverse: q.Reverse, Mode: modeOf(q.Limit)}
	if noConflict {
		it.rows = r.tr.Snapshot().GetRange(span, o).Iterator()
	} else {
		it.rows = r.tr.GetRange(span, o).Iterator()
	}
	return it
}

// modeOf returns the streaming mode of a scan: large batches (80 kB) at once for one with a limit, which the caller
// probably wants whole; batches that grow (4 … 120 kB) for one that may be left early.
func modeOf(limit int) fdb.StreamingMode {
	if limit > 0 {
		return fdb.StreamingModeWantAll
	}
	return fdb.StreamingModeIterator
}
