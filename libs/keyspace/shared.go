package keyspace

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Shards is the number of shards of the work that goes on in a deployment without requests. It is part of the format:
// pods must agree on it.
const Shards = 16

// shardOf returns the shard of a keyspace. Ids are sequential: the multiplication spreads them.
func shardOf(id uint64) int { return int(id * 0x9E3779B97F4A7C15 >> 60) }

// Shared tells whether all pods of the deployment serve the keyspace. One that a pod was started with before anybody
// had created it has pods of its own, as all have had before the table.
func (i *Info) Shared() bool { return i.Row.GetBirth() != 0 && !i.Row.GetUnprefixed() }

// Beside are rows of a keyspace that lie apart from its own, those of its shard together: so that few reads tell what
// there is to be done for which keyspace, and no keyspace has to be opened to find out that it is nothing.
type Beside struct {
	// Head is the head of the keyspace, Bell what changes with every head of the shard.
	Head, Bell []byte
	// Leases is there while the keyspace may have leases.
	Leases []byte
	// Compacted is there while there may be something to remove after a compaction, and Work changes with every such
	// row of the shard.
	Compacted, Work []byte
}

// Deployment is where a deployment has its rows that are of no keyspace.
type Deployment struct {
	t table
}

// NewDeployment returns the deployment below root.
func NewDeployment(root []byte) Deployment { return Deployment{table{root}} }

// Coordination is the prefix of the rows of elections and members of one kind of work.
func (d Deployment) Coordination(work string) []byte { return append(d.t.key(2, 'c'), work+"/"...) }

// Shard is the shard of a keyspace.
func (d Deployment) Shard(id uint64) int { return shardOf(id) }

// Beside are the rows of a keyspace that lie apart.
func (d Deployment) Beside(id uint64) Beside {
	shard := shardOf(id)
	return Beside{
		Head: d.row('h', id), Bell: d.Bell(shard),
		Leases: d.row('l', id), Compacted: d.row('r', id), Work: d.Work(shard),
	}
}

// Rows is the prefix of the rows of a keyspace that all pods serve: Keyspace.Prefix, whether or not there is one.
func (d Deployment) Rows(id uint64) []byte { return d.t.rows(id) }

// Bell and Work are those of Beside.
func (d Deployment) Bell(shard int) []byte { return d.t.key(2, 'b', byte(shard)) }
func (d Deployment) Work(shard int) []byte { return d.t.key(2, 'w', byte(shard)) }

// Heads, Leases and Compacted are where the rows of a shard's keyspaces lie: Beside's of these names.
func (d Deployment) Heads(shard int) engine.Range     { return d.span('h', shard) }
func (d Deployment) Leases(shard int) engine.Range    { return d.span('l', shard) }
func (d Deployment) Compacted(shard int) engine.Range { return d.span('r', shard) }

func (d Deployment) row(kind byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64(d.t.key(2, kind, byte(shardOf(id))), id)
}

func (d Deployment) span(kind byte, shard int) engine.Range {
	return engine.Range{Begin: d.t.key(2, kind, byte(shard)), End: d.t.key(2, kind, byte(shard)+1)}
}

// ID is the keyspace of a row of Heads, Leases or Compacted. Errors: ErrFormat.
func (d Deployment) ID(row []byte) (uint64, error) {
	if len(row) != len(d.t.root)+3+8 {
		return 0, fmt.Errorf("%w: a row of the deployment's of %d bytes", ErrFormat, len(row))
	}
	return binary.BigEndian.Uint64(row[len(row)-8:]), nil
}

// formatShards is the format of the row that says into how many shards the deployment's work is cut.
const formatShards = 1

// Found makes the deployment if it is not there yet. It changes nothing else. Errors: ErrFormat if it has been made by
// a release that cuts its work in another way; the engine's.
func (d Deployment) Found(ctx context.Context, eng engine.Store) error {
	return update(ctx, eng, func(txn engine.Txn) error {
		b, err := txn.Get(ctx, d.t.key(2, 'f'))
		switch {
		case err != nil:
			return err
		case b == nil:
			txn.Set(d.t.key(2, 'f'), []byte{formatShards, Shards})
			return nil
		case len(b) != 2 || b[0] != formatShards || b[1] != Shards:
			return fmt.Errorf("%w: the deployment's work is cut in another way than into %d shards", ErrFormat, Shards)
		}
		return errDone
	})
}

// IDs returns the keyspaces that have a row in a range of the deployment's, in order, with the rows' values. Errors:
// ErrFormat, the engine's.
func (d Deployment) IDs(
	ctx context.Context,
	eng engine.Store,
	r engine.Range,
) (ids []uint64, values [][]byte, err error) {
	r.Limit = listMax
	for {
		n := 0
		err := view(ctx, eng, func(snap engine.Reader) error {
			ids, values, n = ids[:len(ids)-n], values[:len(values)-n], 0
			return scan(ctx, snap, r, func(key, value []byte) error {
				id, err := d.ID(key)
				ids, values = append(ids, id), append(values, append([]byte{}, value...))
				n++
				return err
			})
		})
		if err != nil || n < listMax {
			return ids, values, err
		}
		r.Begin = append(d.row(r.Begin[len(d.t.root)+1], ids[len(ids)-1]), 0)
	}
}

// Forget clears a row of Beside's that says that there may be something to do for a keyspace, if it is still as it was
// and nothing is to be done: done is asked in the transaction that clears it, and what it reads is read with a
// conflict. Errors: done's, the engine's.
func Forget(
	ctx context.Context, eng engine.Store, row []byte, done func(context.Context, engine.Reader) (bool, error),
) error {
	return update(ctx, eng, func(txn engine.Txn) error {
		b, err := txn.Get(ctx, row)
		if err != nil || b == nil {
			return cmp.Or(err, errDone)
		}
		if ok, err := done(ctx, txn); err != nil || !ok {
			return cmp.Or(err, errDone)
		}
		shrinks(txn)
		txn.Clear(row)
		return nil
	})
}
