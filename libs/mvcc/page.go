package mvcc

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Bounds on the values that a list reads from rows other than those it walks over.
const (
	// readerBytesMax is how many bytes of values a list may read with one reader before it continues with a new one: an
	// engine keeps what it has returned until the reader is closed.
	readerBytesMax = 32 << 20
	// pageKeys and pageBytes bound the keys whose values are read together. On a shared engine a page costs one round
	// trip.
	pageKeys  = 256
	pageBytes = 1 << 20
	// pageLogBytes bounds the rows of the log that are read together, by the bytes that they may hold.
	pageLogBytes = 16 << 20
)

// page holds, in order, the keys that wait for their values, and the keys behind them whose values are known.
type page struct {
	kvs   []KV
	refs  []ValueRef
	at    []int // for each ref, the KV that it belongs to
	parts []logPart
	keys  []byte
	bytes int

	// log holds the rows of the log that the parts lie in. The row that was read last is kept for the next page. What
	// one request replaced lies side by side in its log entry: without the kept row, a list behind a large delete would
	// read the same row for each page.
	log map[logRow][]byte // nil: to be read
	// unread are the rows that are to be read, in order.
	unread []logRow
}

// logRow names a row of the log.
type logRow struct {
	stamp engine.Stamp
	chunk int
}

// logPart is the value of a KV that lies in an entry of the log.
type logPart struct {
	kv       int
	stamp    engine.Stamp
	at, size int
}

// emit visits a key whose value is known. If keys before it are still waiting for theirs, it keeps the key until they
// have been visited.
func (c *cursor) emit(ctx context.Context, kv *KV, visit Visit) error {
	if len(c.page.kvs) == 0 {
		return visit(kv)
	}
	c.keep(kv)
	return c.flushFull(ctx, visit)
}

// fetch reads the value of a key and visits it: at once, or with its page if a read is a round trip.
func (c *cursor) fetch(ctx context.Context, kv *KV, ref ValueRef, visit Visit) (err error) {
	if c.s.limits.Dense {
		if kv.Value, err = c.walk.read(ctx, &ref); err != nil {
			return err
		}
		if kv.Value == nil {
			return ErrCorrupt
		}
		return visit(kv)
	}
	kept := c.keep(kv)
	ref.Key = kept.Key
	c.page.refs = append(c.page.refs, ref)
	c.page.at = append(c.page.at, len(c.page.kvs)-1)
	c.page.bytes += ref.Size
	return c.flushFull(ctx, visit)
}

// fetchLog is fetch for a value that is size bytes at an offset of an entry of the log.
func (c *cursor) fetchLog(ctx context.Context, kv *KV, st engine.Stamp, at, size int, visit Visit) error {
	c.keep(kv)
	p := &c.page
	if p.log == nil {
		p.log = map[logRow][]byte{}
	}
	from, to := c.s.logSpan(at, size)
	for chunk := from; chunk <= to; chunk++ {
		row := logRow{st, chunk}
		if _, ok := p.log[row]; !ok {
			p.log[row] = nil
			p.unread = append(p.unread, row)
		}
	}
	p.parts = append(p.parts, logPart{kv: len(p.kvs) - 1, stamp: st, at: at, size: size})
	p.bytes += size
	if c.s.limits.Dense {
		return c.flush(ctx, visit)
	}
	return c.flushFull(ctx, visit)
}

func (c *cursor) flushFull(ctx context.Context, visit Visit) error {
	p := &c.page
	if len(p.kvs) < pageKeys && p.bytes < pageBytes && len(p.unread)*c.s.meta.ChunkBytes < pageLogBytes {
		return nil
	}
	return c.flush(ctx, visit)
}

// keep puts a copy of kv into the page.
func (c *cursor) keep(kv *KV) *KV {
	p := &c.page
	if cap(p.keys)-len(p.keys) < len(kv.Key)+len(kv.Value) {
		// The keys that have been handed out stay in the old slice.
		p.keys = make([]byte, 0, max(pageKeys*64, len(kv.Key)+len(kv.Value)))
	}
	own := func(b []byte) []byte {
		n := len(p.keys)
		p.keys = append(p.keys, b...)
		return p.keys[n:len(p.keys):len(p.keys)]
	}
	kept := *kv
	kept.Key, kept.Value = own(kv.Key), own(kv.Value)
	p.kvs = append(p.kvs, kept)
	p.bytes += len(kv.Key) + len(kv.Value)
	return &p.kvs[len(p.kvs)-1]
}

// errRenew is what a scan ends with when its reader holds as much as it may.
var errRenew = errors.New("mvcc: a list continues with a new reader")

// flush reads the values of the page and visits its keys. After errRenew or ErrTooOld the list continues behind the
// last key visited, so nothing is lost.
func (c *cursor) flush(ctx context.Context, visit Visit) error {
	p := &c.page
	if len(p.kvs) == 0 {
		return nil
	}
	if err := c.fill(ctx); err != nil {
		return err
	}
	for i := range p.kvs {
		if err := visit(&p.kvs[i]); err != nil {
			return err
		}
	}
	*p = page{
		kvs: p.kvs[:0], refs: p.refs[:0], at: p.at[:0], parts: p.parts[:0],
		keys: p.keys[:0], log: p.log, unread: p.unread[:0],
	}
	if c.copied > readerBytesMax && c.renews {
		return errRenew
	}
	return nil
}

// fill reads the values of the page in one request.
func (c *cursor) fill(ctx context.Context) error {
	p := &c.page
	rows := make([][]byte, 0, len(p.refs)+len(p.unread))
	for i := range p.refs {
		rows = c.s.valRows(rows, &p.refs[i])
	}
	vals := len(rows)
	for _, row := range p.unread {
		rows = append(rows, c.s.rows.logPart(row.stamp, row.chunk))
	}
	if len(rows) == 0 { // all parts lie in the row that was read last
		return c.cutParts()
	}
	got, err := c.r.GetMany(ctx, rows)
	if err != nil {
		return storeErr(err)
	}
	for _, b := range got {
		c.copied += len(b)
	}
	values, err := c.s.joinValues(p.refs, got[:vals])
	if err != nil {
		return err
	}
	for i, v := range values {
		if v == nil {
			return ErrCorrupt
		}
		p.kvs[p.at[i]].Value = v
	}
	for i, row := range p.unread {
		if p.log[row], err = logPayload(row.chunk, got[vals+i]); err != nil {
			return err
		}
	}
	return c.cutParts()
}

// cutParts cuts the values out of the rows of the log, and forgets all rows but the last.
func (c *cursor) cutParts() error {
	p := &c.page
	var chunks [][]byte
	for _, part := range p.parts {
		from, to := c.s.logSpan(part.at, part.size)
		chunks = chunks[:0]
		for chunk := from; chunk <= to; chunk++ {
			chunks = append(chunks, p.log[logRow{part.stamp, chunk}])
		}
		v, err := cut(chunks, part.at-from*c.s.meta.ChunkBytes, part.size)
		if err != nil {
			return err
		}
		p.kvs[part.kv].Value = v
	}
	if n := len(p.unread); n > 0 {
		last := p.unread[n-1]
		b := p.log[last]
		clear(p.log)
		p.log[last] = b
	}
	return nil
}

// logSpan is the first and the last chunk of a part of an entry.
func (s *Store) logSpan(at, size int) (from, to int) {
	return at / s.meta.ChunkBytes, (at + size - 1) / s.meta.ChunkBytes
}

// logBytes reads a part of a log entry.
func (s *Store) logBytes(ctx context.Context, r engine.Reader, st engine.Stamp, at, size int) ([]byte, error) {
	from, to := s.logSpan(at, size)
	keys := make([][]byte, 0, to-from+1)
	for i := from; i <= to; i++ {
		keys = append(keys, s.rows.logPart(st, i))
	}
	chunks, err := r.GetMany(ctx, keys)
	if err != nil {
		return nil, err
	}
	if chunks[0], err = logPayload(from, chunks[0]); err != nil {
		return nil, err
	}
	return cut(chunks, at-from*s.meta.ChunkBytes, size)
}

// logPayload returns the part of an entry that a row holds: the first row begins with the entry's length. A missing row
// holds nothing.
func logPayload(chunk int, row []byte) ([]byte, error) {
	if chunk > 0 || len(row) == 0 {
		return row, nil
	}
	_, n := binary.Uvarint(row)
	if n <= 0 {
		return nil, ErrCorrupt
	}
	return row[n:], nil
}
