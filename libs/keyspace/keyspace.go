package keyspace

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Limits.
const (
	// attemptsMax bounds the attempts of a transaction that conflicts, has an unknown outcome or grows too old.
	attemptsMax = 32
	// pauseMax bounds the pause between two attempts; it begins at a millisecond and doubles.
	pauseMax = 50 * time.Millisecond
	// sweepMax bounds how many deleted keyspaces one transaction of Sweep clears.
	sweepMax = 256
	// listMax bounds the rows that one transaction of List reads.
	listMax = 4096
)

// Keyspace is where the rows of one keyspace lie. The slices must not be changed; append to a copy.
type Keyspace struct {
	Name         string
	ID           uint64
	Prefix       []byte // of mvcc's rows: mvcc.Options.Prefix
	Coordination []byte // of the rows of elections, lease shards and the like
}

// Open returns the keyspace name below root, and creates it if it is not there. Errors: ErrName, ErrFormat, the engine's.
func Open(ctx context.Context, eng engine.Store, root []byte, name string) (Keyspace, error) {
	if err := checkName(name); err != nil {
		return Keyspace{}, err
	}
	t := table{root}
	var id uint64
	err := update(ctx, eng, func(txn engine.Txn) error {
		var err error
		if id, err = t.lookup(ctx, txn, name); !errors.Is(err, ErrNotFound) {
			return err
		}
		if id, err = t.nextID(ctx, txn); err != nil {
			return err
		}
		txn.Set(t.last(), idRow(id))
		txn.Set(t.name(name), idRow(id))
		return nil
	})
	if err != nil {
		return Keyspace{}, err
	}
	return t.keyspace(name, id), nil
}

// lookup returns the id of name. Errors: ErrNotFound, ErrFormat, the engine's.
func (t table) lookup(ctx context.Context, r engine.Reader, name string) (uint64, error) {
	row, err := r.Get(ctx, t.name(name))
	switch {
	case err != nil:
		return 0, err
	case row == nil:
		return 0, ErrNotFound
	}
	return parseID(row)
}

func (t table) nextID(ctx context.Context, r engine.Reader) (uint64, error) {
	row, err := r.Get(ctx, t.last())
	if err != nil || row == nil {
		return 1, err
	}
	id, err := parseID(row)
	if err == nil && id == idMax {
		err = ErrFormat
	}
	return id + 1, err
}

// Lookup returns the keyspace name below root. Errors: ErrNotFound, ErrName, ErrFormat, the engine's.
func Lookup(ctx context.Context, eng engine.Store, root []byte, name string) (Keyspace, error) {
	if err := checkName(name); err != nil {
		return Keyspace{}, err
	}
	t := table{root}
	var id uint64
	err := view(ctx, eng, func(r engine.Reader) (err error) {
		id, err = t.lookup(ctx, r, name)
		return err
	})
	if err != nil {
		return Keyspace{}, err
	}
	return t.keyspace(name, id), nil
}

// List returns the keyspaces below root by name. Those created or deleted meanwhile may or may not be among them. Errors:
// ErrFormat, the engine's.
func List(ctx context.Context, eng engine.Store, root []byte) ([]Keyspace, error) {
	t := table{root}
	var all []Keyspace
	begin, end := t.key(0, 'n'), t.key(0, 'n'+1)
	for {
		var page []Keyspace
		err := view(ctx, eng, func(r engine.Reader) error {
			page = nil
			return scan(ctx, r, engine.Range{Begin: begin, End: end, Limit: listMax}, func(key, value []byte) error {
				id, err := parseID(value)
				page = append(page, t.keyspace(string(key[len(root)+2:]), id))
				return err
			})
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < listMax {
			return all, nil
		}
		begin = append(t.name(page[len(page)-1].Name), 0)
	}
}

// Delete deletes the keyspace name below root with all that it holds, in one transaction. There is no way back. Errors: ErrNotFound, ErrName, ErrFormat, the engine's.
func Delete(ctx context.Context, eng engine.Store, root []byte, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	t := table{root}
	var tried uint64 // the id that an attempt before has deleted, perhaps
	return update(ctx, eng, func(txn engine.Txn) error {
		id, err := t.lookup(ctx, txn, name)
		switch {
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		case tried != 0 && id != tried:
			return nil // it is gone; one of the same name may have been created since
		case err != nil:
			return err
		}
		tried = id
		txn.Clear(t.name(name))
		txn.Set(t.deleted(id), []byte(name))
		txn.ClearRange(t.space(id), t.spaceEnd(id))
		return nil
	})
}

// Sweep clears the rows below deleted ids: those that pods wrote which had not noticed the deletion. It may be run at any time, such as when a
// pod starts; it reads one row per id, and the list of deleted ids is kept for ever. Errors: ErrFormat, the engine's.
func Sweep(ctx context.Context, eng engine.Store, root []byte) error {
	t := table{root}
	begin, end := t.key(0, 'x'), t.key(0, 'x'+1)
	for {
		var ids []uint64
		err := update(ctx, eng, func(txn engine.Txn) error {
			ids = nil
			if err := scan(ctx, txn, engine.Range{Begin: begin, End: end, Limit: sweepMax, KeysOnly: true}, func(key, _ []byte) error {
				if len(key) != len(root)+2+8 {
					return ErrFormat
				}
				ids = append(ids, binary.BigEndian.Uint64(key[len(root)+2:]))
				return nil
			}); err != nil {
				return err
			}
			for _, id := range ids {
				txn.ClearRange(t.space(id), t.spaceEnd(id))
			}
			return nil
		})
		if err != nil || len(ids) < sweepMax {
			return err
		}
		begin = t.deleted(ids[len(ids)-1] + 1)
	}
}

// WaitDeleted returns nil when ks has been deleted, also if another of its name is there. Errors: ErrFormat, the engine's, among them
// engine.ErrUnavailable, after which it is worth calling again.
func WaitDeleted(ctx context.Context, eng engine.Store, root []byte, ks Keyspace) error {
	t := table{root}
	row := idRow(ks.ID)
	for {
		err := view(ctx, eng, func(r engine.Reader) error {
			id, err := t.lookup(ctx, r, ks.Name)
			if err == nil && id != ks.ID {
				err = ErrNotFound
			}
			return err
		})
		switch {
		case errors.Is(err, ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		if err := eng.WaitChange(ctx, t.name(ks.Name), row); err != nil {
			return err
		}
	}
}
