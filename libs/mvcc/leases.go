package mvcc

import (
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// HasLeases tells whether the keyspace below prefix in eng holds a lease, without opening it. Errors: the engine's.
func HasLeases(ctx context.Context, eng engine.Store, prefix []byte) (has bool, err error) {
	snap, err := eng.Snapshot(ctx)
	if err != nil {
		return false, err
	}
	defer snap.Close()
	r := rows{prefix: prefix}
	it := snap.Scan(ctx, engine.Range{Begin: r.table(nil, tableLease), End: r.table(nil, tableLease+1), Limit: 1, KeysOnly: true})
	has = it.Next()
	return has, errors.Join(it.Err(), it.Close())
}
