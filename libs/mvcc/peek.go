package mvcc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/headwaterdb/headwater/libs/engine"
)

// countPage bounds the rows that one snapshot of Count reads.
const countPage = 10_000

// Peeked is what the rows of a keyspace tell about it.
type Peeked struct {
	Head     int64 // revision of the last write; 0: the keyspace has never been opened
	Compact  int64 // compact revision; -1: never compacted
	Removed  int64 // revisions from here up to Compact may still have rows to remove; -1: never compacted
	Live     int64 // live bytes; 0 without FeatureSizes
	Features Features
}

// Peek reads the state of the keyspace below prefix without opening it, so it can be called for any number of
// keyspaces. Errors: ErrCorrupt, ErrNewerFormat, the engine's.
func Peek(ctx context.Context, eng engine.Store, prefix []byte) (Peeked, error) {
	snap, err := eng.Snapshot(ctx)
	if err != nil {
		return Peeked{}, err
	}
	defer snap.Close()
	r := rows{prefix: prefix}
	got, err := snap.GetMany(ctx, [][]byte{
		r.meta(metaKeyspace), r.head(), r.meta(metaCompact), r.meta(metaLive), r.meta(metaCompacted),
	})
	if err != nil {
		return Peeked{}, err
	}
	if got[0] == nil {
		return Peeked{Compact: neverCompacted, Removed: neverCompacted}, nil
	}
	meta, err := parseMeta(got[0])
	if err != nil {
		return Peeked{}, err
	}
	st, f, err := parseHeadRow(got[1])
	if err != nil {
		return Peeked{}, err
	}
	p := Peeked{Features: f, Head: meta.Space.Of(st)}
	if p.Compact, err = parseCompact(got[2]); err != nil {
		return Peeked{}, err
	}
	if p.Removed, err = parseCompact(got[4]); err != nil {
		return Peeked{}, err
	}
	if !f.Has(FeatureSizes) {
		return p, nil
	}
	var ok bool
	if p.Live, ok = engine.ParseCounter(got[3]); !ok {
		return Peeked{}, fmt.Errorf("%w: the counter of live bytes has %d bytes", ErrCorrupt, len(got[3]))
	}
	return p, nil
}

// HasLeases reports whether the keyspace below prefix holds a lease, without opening the keyspace. Errors: the
// engine's.
func HasLeases(ctx context.Context, eng engine.Store, prefix []byte) (bool, error) {
	r := rows{prefix: prefix}
	q := r.tableRange(tableLease)
	q.Limit, q.KeysOnly = 1, true
	n, _, err := countOnce(ctx, eng, q)
	return n > 0, err
}

// Count counts the keys and the leases of the keyspace below prefix without opening it. It reads a row for each of
// them, and if there are many, in several states of the store. Errors: the engine's.
func Count(ctx context.Context, eng engine.Store, prefix []byte) (keys, leases int64, err error) {
	r := rows{prefix: prefix}
	if keys, err = countRows(ctx, eng, r.tableRange(tableIdx)); err != nil {
		return 0, 0, err
	}
	leases, err = countRows(ctx, eng, r.tableRange(tableLease))
	return keys, leases, err
}

func countRows(ctx context.Context, eng engine.Store, q engine.Range) (n int64, err error) {
	q.Limit, q.KeysOnly = countPage, true
	for {
		page, last, err := countOnce(ctx, eng, q)
		n += int64(page)
		if err != nil || page < countPage {
			return n, err
		}
		q.Begin = append(slices.Clip(last), 0)
	}
}

// countOnce counts the rows of one page and returns the key of the last one.
func countOnce(ctx context.Context, eng engine.Store, q engine.Range) (n int, last []byte, err error) {
	snap, err := eng.Snapshot(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer snap.Close()
	it := snap.Scan(ctx, q)
	for it.Next() {
		n++
		last = append(last[:0], it.Key()...)
	}
	return n, last, errors.Join(it.Err(), it.Close())
}
