//go:build foundationdb

package foundationdb

import "context"

// RangeSize returns FoundationDB's estimate of the bytes of the keys and values k, begin <= k < end; a nil end means to
// the end of the store. The estimate comes from samples that storage servers keep anyway, and costs as much as a read.
// It is useful from about 3 MB on; for much smaller ranges it may be 0. Copies are not counted. Errors:
// engine.ErrUnavailable, engine.ErrClosed, the context's.
func (s *Store) RangeSize(ctx context.Context, begin, end []byte) (int64, error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	span, ok := s.span(begin, end)
	if !ok {
		return 0, nil
	}
	tr, err := s.newTransaction()
	if err != nil {
		return 0, err
	}
	f := tr.GetEstimatedRangeSizeBytes(span)
	g := watchOver(ctx, s.o.Timeout, f.Cancel)
	defer g.release()
	n, err := f.Get()
	if err != nil {
		return 0, s.readErr(ctx, err)
	}
	return n, nil
}
