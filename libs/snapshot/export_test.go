package snapshot

import (
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// WriteInWindows is Write with other limits of a window of the log: the bytes of its records, the memory for versions
// whose values are read later, and the memory of its sorter. If ordered is set, all values are read in the order of the
// log.
func WriteInWindows(
	ctx context.Context, d *mvcc.Dump, o Options, bytes, refs, sort int, ordered bool,
) (*File, error) {
	w := newWriter(o)
	w.window.bytes, w.window.refs, w.window.sort = bytes, refs, sort
	if ordered {
		w.window.apart = 0
	}
	f, err := w.write(ctx, d)
	if err != nil {
		return nil, errors.Join(err, w.discard())
	}
	return f, nil
}
