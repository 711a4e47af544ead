package keyspace

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// Limits.
const (
	// attemptsMax bounds the attempts of a transaction that conflicts, has an unknown outcome or grows too old.
	attemptsMax = 32
	// pauseMin and pauseMax bound the pause between two attempts, which doubles.
	pauseMin = time.Millisecond
	pauseMax = 50 * time.Millisecond
	// sweepMax bounds how many deleted keyspaces one transaction of Sweep clears.
	sweepMax = 256
	// listMax bounds the rows that one transaction of List reads.
	listMax = 4096
)

// Keyspace says where the rows of one keyspace are. The slices must not be changed; append to a copy.
type Keyspace struct {
	Name         string
	ID           uint64
	Prefix       []byte // of mvcc's rows: mvcc.Options.Prefix
	Coordination []byte // of the rows of elections, lease shards and the like
}

// Info is a keyspace as the table describes it. The row must not be changed, except in a function that is passed to
// Change.
type Info struct {
	Keyspace
	Row *keyspacev1.Keyspace
}

// Served says whether the keyspace is there for clients.
func (i *Info) Served() bool { return i.Row.GetState() == keyspacev1.State_STATE_ACTIVE }

// Open returns the keyspace name below root. If there is none, it creates it with default settings, in the form that
// earlier releases read. Errors: ErrName, ErrFormat, the engine's.
func Open(ctx context.Context, eng engine.Store, root []byte, name string) (Keyspace, error) {
	if err := checkName(name); err != nil {
		return Keyspace{}, err
	}
	t := table{root}
	var ks Keyspace
	err := update(ctx, eng, func(txn engine.Txn) error {
		info, err := t.lookup(ctx, txn, name)
		if !errors.Is(err, ErrNotFound) {
			ks = info.Keyspace
			return cmp.Or(err, errDone)
		}
		id, err := t.nextID(ctx, txn)
		if err != nil {
			return err
		}
		ks = t.keyspace(name, id, false)
		txn.Set(t.last(), idRow(id))
		txn.Set(t.name(name), idRow(id))
		t.changed(txn)
		return nil
	})
	if err != nil {
		return Keyspace{}, err
	}
	return ks, nil
}

// lookup returns the row of name. Errors: ErrNotFound, ErrFormat, the engine's.
func (t table) lookup(ctx context.Context, r engine.Reader, name string) (Info, error) {
	b, err := r.Get(ctx, t.name(name))
	switch {
	case err != nil:
		return Info{}, err
	case b == nil:
		return Info{}, ErrNotFound
	}
	row, err := decode(b)
	if err != nil {
		return Info{}, rowErr(name, err)
	}
	return t.info(name, row), nil
}

func (t table) info(name string, row *keyspacev1.Keyspace) Info {
	return Info{Keyspace: t.keyspace(name, row.GetId(), row.GetUnprefixed()), Row: row}
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
	info, err := Show(ctx, eng, root, name)
	return info.Keyspace, err
}

// Show returns the keyspace name as the table below root describes it. Errors: as Lookup.
func Show(ctx context.Context, eng engine.Store, root []byte, name string) (info Info, err error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	t := table{root}
	err = view(ctx, eng, func(r engine.Reader) (err error) {
		info, err = t.lookup(ctx, r, name)
		return err
	})
	return info, err
}

// List returns the keyspaces below root in the order of their names: those after a name, and no more than limit; 0:
// all. A keyspace that is created, renamed or deleted during the call may or may not be in the list. Errors: ErrFormat,
// the engine's.
func List(ctx context.Context, eng engine.Store, root []byte, after string, limit int) ([]Info, error) {
	t := table{root}
	var all []Info
	begin, end := t.key(0, 'n'), t.key(0, 'n'+1)
	if after != "" {
		begin = append(t.name(after), 0)
	}
	for {
		var page []Info
		most := listMax
		if limit > 0 {
			most = min(listMax, limit-len(all))
		}
		err := view(ctx, eng, func(r engine.Reader) error {
			page = nil
			return scan(ctx, r, engine.Range{Begin: begin, End: end, Limit: most}, func(key, value []byte) error {
				name := string(key[len(root)+2:])
				row, err := decode(value)
				if err != nil {
					return rowErr(name, err)
				}
				page = append(page, t.info(name, row))
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < most || len(all) == limit {
			return all, nil
		}
		begin = append(t.name(page[len(page)-1].Name), 0)
	}
}

// Sweep removes the rows below the ids of keyspaces that have been cleared. Pods that had not noticed the deletion have
// written them. Sweep may be run at any time, for example when a pod starts. It reads one row per id. The list of
// deleted ids is kept for ever. Errors: ErrFormat, the engine's.
func Sweep(ctx context.Context, eng engine.Store, root []byte) error {
	t := table{root}
	begin, end := t.key(0, 'x'), t.key(0, 'x'+1)
	for {
		n := 0
		err := update(ctx, eng, func(txn engine.Txn) error {
			n = 0
			gone, err := t.deletedFrom(ctx, txn, begin, end, sweepMax)
			if err != nil {
				return err
			}
			for _, row := range gone {
				n++
				begin = t.deleted(row.GetId() + 1)
				if row.GetState() != keyspacev1.State_STATE_CLEARED || row.GetUnprefixed() {
					continue // Clear removes its rows, or it has no rows of its own
				}
				for _, r := range t.ranges(row) {
					txn.ClearRange(r[0], r[1])
				}
			}
			return nil
		})
		if err != nil || n < sweepMax {
			return err
		}
	}
}

// deletedFrom returns the rows of the table about deleted keyspaces in a range.
func (t table) deletedFrom(ctx context.Context, r engine.Reader, begin, end []byte, limit int) (
	gone []*keyspacev1.Keyspace, err error,
) {
	err = scan(ctx, r, engine.Range{Begin: begin, End: end, Limit: limit}, func(key, value []byte) error {
		if len(key) != len(t.root)+2+8 {
			return ErrFormat
		}
		row, err := decodeDeleted(key, value)
		if err == nil && row.GetId() != binary.BigEndian.Uint64(key[len(key)-8:]) {
			err = ErrFormat
		}
		gone = append(gone, row)
		return err
	})
	return gone, err
}

// WaitDeleted returns nil when ks has been deleted, even if another keyspace has its name by then. A rename is not a
// deletion. Errors: the engine's. After engine.ErrUnavailable it is worth calling again.
func WaitDeleted(ctx context.Context, eng engine.Store, root []byte, ks Keyspace) error {
	row := table{root}.deleted(ks.ID)
	for {
		gone := false
		err := view(ctx, eng, func(r engine.Reader) error {
			b, err := r.Get(ctx, row)
			gone = b != nil
			return err
		})
		if err != nil || gone {
			return err
		}
		if err := eng.WaitChange(ctx, row, nil); err != nil {
			return err
		}
	}
}
