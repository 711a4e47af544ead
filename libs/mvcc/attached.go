package mvcc

import (
	"bytes"
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// The keys of a lease often lie beside each other: those of one client, or of one prefix. On an engine over a network a
// row of a scan costs a fraction of a row that is asked for by itself, so the records of many keys are first looked for
// by scans.
const (
	// attachedScanMin is how many keys are worth it.
	attachedScanMin = 64
	// attachedScanKeys is how many keys one scan looks for. Their records fill about one page, and all scans are under
	// way at the same time.
	attachedScanKeys = 512
	// attachedScanRows bounds the rows that a scan reads, as a multiple of the keys that it looks for. Keys beyond them
	// are asked for one by one.
	attachedScanRows = 2
)

// loadAttached is loadStates for the keys of a lease, which are in order.
func (g *group) loadAttached(ctx context.Context, keys [][]byte) error {
	if txn, writes := g.txn.(engine.Txn); writes && !g.s.limits.Dense {
		if err := g.scanAttached(ctx, txn, keys); err != nil {
			return storeErr(err)
		}
	}
	return g.loadStates(ctx, keys)
}

// scanAttached loads the states of those keys that lie beside each other. The conflicts are those of reading each key.
func (g *group) scanAttached(ctx context.Context, txn engine.Txn, keys [][]byte) (err error) {
	var its []engine.Iterator
	var parts [][][]byte
	for len(keys) >= attachedScanMin {
		part := keys[:min(attachedScanKeys, len(keys))]
		keys = keys[len(part):]
		end := append(g.s.rows.idx(nil, part[len(part)-1]), 0)
		parts = append(parts, part)
		its = append(its, txn.Scan(ctx, engine.Range{
			Begin: g.s.rows.idx(nil, part[0]), End: end, Limit: attachedScanRows * len(part), NoConflict: true,
		}))
	}
	defer func() {
		for _, it := range its {
			err = errors.Join(err, it.Close())
		}
	}()
	for i, it := range its {
		if err := g.takeAttached(txn, it, parts[i]); err != nil {
			return err
		}
	}
	return nil
}

// takeAttached loads the states of the keys whose records it reads. A key that it does not read is left alone: the scan
// has ended before it, or it is not there.
func (g *group) takeAttached(txn engine.Txn, it engine.Iterator, keys [][]byte) error {
	for len(keys) > 0 && it.Next() {
		at := g.s.rows.idxKey(it.Key())
		for len(keys) > 0 && bytes.Compare(keys[0], at) < 0 {
			keys = keys[1:]
		}
		if len(keys) == 0 || !bytes.Equal(keys[0], at) {
			continue
		}
		key := keys[0]
		if _, ok := g.states[string(key)]; ok {
			continue
		}
		st := g.newState(key)
		if err := st.init(bytes.Clone(it.Value()), g.s.refs); err != nil {
			return err
		}
		g.states[string(key)] = st
		row := g.idxRow(key)
		txn.AddReadConflict(row, append(row[:len(row):len(row)], 0))
	}
	return it.Err()
}
