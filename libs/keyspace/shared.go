package keyspace

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Shards is the number of shards into which a deployment's background work is divided. It is part of the format: all
// pods must have the same.
const Shards = 16

// shardOf returns the shard of a keyspace. Ids are sequential, and the multiplication spreads them.
func shardOf(id uint64) int { return int(id * 0x9E3779B97F4A7C15 >> 60) }

// Shared says whether all pods of the deployment serve the keyspace. If a pod was started with the name before anybody
// had created the keyspace, it has pods of its own, like all keyspaces before there was a table.
func (i *Info) Shared() bool { return i.Row.GetBirth() != 0 && !i.Row.GetUnprefixed() }

// Beside are rows about a keyspace that do not lie with its own rows, but with those of its whole shard. So a few reads
// show which keyspaces need work, and no keyspace has to be opened just to find that there is none.
type Beside struct {
	// Head is the head of the keyspace. Bell changes whenever a head of the shard changes.
	Head, Bell []byte
	// Leases exists while the keyspace may have leases.
	Leases []byte
	// Compacted exists while there may be something to remove after a compaction. Work changes whenever such a row of
	// the shard changes.
	Compacted, Work []byte
}

// Deployment says where a deployment has the rows that belong to no keyspace.
type Deployment struct {
	t table
}

// NewDeployment returns the deployment below root.
func NewDeployment(root []byte) Deployment { return Deployment{table{root}} }

// Coordination returns the prefix of the elections and members for one kind of work.
func (d Deployment) Coordination(work string) []byte { return append(d.t.key(2, 'c'), work+"/"...) }

// Shard returns the shard of a keyspace.
func (d Deployment) Shard(id uint64) int { return shardOf(id) }

// Beside returns the rows about a keyspace that do not lie with its own.
func (d Deployment) Beside(id uint64) Beside {
	shard := shardOf(id)
	return Beside{
		Head: d.row('h', id), Bell: d.Bell(shard),
		Leases: d.row('l', id), Compacted: d.row('r', id), Work: d.Work(shard),
	}
}

// Rows returns the prefix of the rows of a keyspace that all pods serve: its Keyspace.Prefix, whether or not the
// keyspace exists.
func (d Deployment) Rows(id uint64) []byte { return d.t.rows(id) }

// Bell and Work return the rows of these names in Beside.
func (d Deployment) Bell(shard int) []byte { return d.t.key(2, 'b', byte(shard)) }
func (d Deployment) Work(shard int) []byte { return d.t.key(2, 'w', byte(shard)) }

// Heads, Leases and Compacted return the range of the rows of these names in Beside, for all keyspaces of a shard.
func (d Deployment) Heads(shard int) engine.Range     { return d.span('h', shard) }
func (d Deployment) Leases(shard int) engine.Range    { return d.span('l', shard) }
func (d Deployment) Compacted(shard int) engine.Range { return d.span('r', shard) }

func (d Deployment) row(kind byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64(d.t.key(2, kind, byte(shardOf(id))), id)
}

func (d Deployment) span(kind byte, shard int) engine.Range {
	return engine.Range{Begin: d.t.key(2, kind, byte(shard)), End: d.t.key(2, kind, byte(shard)+1)}
}

// ID returns the keyspace of a row of Heads, Leases or Compacted. Errors: ErrFormat.
func (d Deployment) ID(row []byte) (uint64, error) {
	if len(row) != len(d.t.root)+3+8 {
		return 0, fmt.Errorf("%w: a row of the deployment has a key of %d bytes", ErrFormat, len(row))
	}
	return binary.BigEndian.Uint64(row[len(row)-8:]), nil
}

// formatShards is the format of the row that has the number of shards.
const formatShards = 1

// Found creates the deployment if it does not exist yet. Otherwise it changes nothing. Errors: ErrFormat if a release
// with another number of shards has created it; the engine's.
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
			return fmt.Errorf("%w: the deployment was not created with %d shards", ErrFormat, Shards)
		}
		return errDone
	})
}

// IDs returns the keyspaces that have a row in one of the deployment's ranges, in order, with the values of the rows.
// Errors: ErrFormat, the engine's.
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

// Forget removes a row of Beside that says that a keyspace may need work, if the row has not changed and there is no
// work. It calls done in the transaction that removes the row, to find out. What done reads is read with a conflict.
// Errors: done's, the engine's.
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
