package remoteengine

import (
	"context"
	"errors"
	"slices"

	"github.com/headwaterdb/headwater/libs/engine"
)

// errEnded says that a reader has been closed, or a transaction committed.
var errEnded = errors.New("remoteengine: the reader has ended")

// reader is a reader that the server holds.
type reader struct {
	c       *Client
	id      uint64
	version uint64
	closed  bool
}

// Version implements engine.Reader.
func (r *reader) Version() uint64 { return r.version }

// Get implements engine.Reader.
func (r *reader) Get(ctx context.Context, key []byte) ([]byte, error) {
	values, err := r.GetMany(ctx, [][]byte{key})
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

// GetMany implements engine.Reader.
func (r *reader) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	if r.closed {
		return nil, errEnded
	}
	resp, err := r.c.call(ctx, &request{Op: opGetMany, Reader: r.id, Keys: keys})
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for i, row := range resp.Rows {
		values[i] = row.value()
	}
	return values, nil
}

func (r *row) value() []byte {
	switch {
	case r.Absent:
		return nil
	case r.Value == nil:
		return []byte{}
	}
	return r.Value
}

// Scan implements engine.Reader. It fetches rows page by page.
func (r *reader) Scan(ctx context.Context, rng engine.Range) engine.Iterator {
	return &iterator{r: r, ctx: ctx, rng: rng, at: -1, more: true}
}

// Close implements engine.Snapshot. It does not wait for the server.
func (r *reader) Close() {
	if r.closed {
		return
	}
	r.closed = true
	// An error says that the connection is gone, and then the reader is gone too.
	_ = r.c.send(&request{Op: opClose, Reader: r.id})
}

// iterator walks the pages of a scan.
type iterator struct {
	r    *reader
	ctx  context.Context
	rng  engine.Range
	seen int
	rows []row
	at   int
	more bool
	err  error
}

// Next implements engine.Iterator.
func (it *iterator) Next() bool {
	if it.at++; it.at < len(it.rows) {
		return true
	}
	for it.more && it.err == nil {
		if it.page(); len(it.rows) > 0 && it.err == nil {
			it.at = 0
			return true
		}
	}
	it.rows, it.at = nil, 0
	return false
}

// page fetches the next rows.
func (it *iterator) page() {
	if n := len(it.rows); n > 0 { // go on behind the last row
		last := append([]byte{}, it.rows[n-1].Key...) // never nil, which would be the end of the store
		if it.seen += n; it.rng.Reverse {
			it.rng.End = last
		} else {
			it.rng.Begin = append(slices.Clip(last), 0)
		}
	}
	it.rows = nil
	rng := it.rng
	if rng.Limit > 0 {
		if rng.Limit -= it.seen; rng.Limit <= 0 {
			it.more = false
			return
		}
	}
	if it.r.closed {
		it.err = errEnded
		return
	}
	// gob does not distinguish nil from empty, so Absent says that there is no end.
	resp, err := it.r.c.call(it.ctx, &request{Op: opScan, Reader: it.r.id, Range: rng, Absent: rng.End == nil})
	if err != nil {
		it.err = err
		return
	}
	it.rows, it.more = resp.Rows, resp.More
}

// Key implements engine.Iterator.
func (it *iterator) Key() []byte { return it.rows[it.at].Key }

// Value implements engine.Iterator.
func (it *iterator) Value() []byte { return it.rows[it.at].value() }

// Err implements engine.Iterator.
func (it *iterator) Err() error { return it.err }

// Close implements engine.Iterator.
func (it *iterator) Close() error {
	it.rows, it.more = nil, false
	return it.err
}
