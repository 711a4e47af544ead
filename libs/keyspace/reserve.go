package keyspace

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwaterdb/headwater/libs/engine"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// ErrNotReserved: an id is not reserved, or is not reserved any more.
var ErrNotReserved = errors.New("keyspace: not reserved")

// Reserve takes an id for a keyspace whose rows are to be written before clients can see it. It has no name yet.
// Publish gives it the name, and Abandon has its rows cleared. settings are as for Create. Errors: as Create.
func Reserve(
	ctx context.Context, eng engine.Store, root []byte, name string, settings *keyspacev1.Keyspace,
) (info Info, err error) {
	if err := Check(name, settings); err != nil {
		return Info{}, err
	}
	row := new(keyspacev1.Keyspace)
	if settings != nil {
		row = proto.Clone(settings).(*keyspacev1.Keyspace)
	}
	openByDefault(row)
	row.State, row.Name, row.Unprefixed = keyspacev1.State_STATE_COPYING, name, false
	row.Birth = newBirth()
	row.Created, row.Deleted = timestamppb.New(time.Now()), nil
	t := table{root}
	err = update(ctx, eng, func(txn engine.Txn) error {
		// An attempt with an unknown outcome may have taken an id. That id stays reserved until AbandonAll.
		switch _, err := t.lookup(ctx, txn, name); {
		case err == nil:
			return ErrExists
		case !errors.Is(err, ErrNotFound):
			return err
		}
		if row.Id, err = t.nextID(ctx, txn); err != nil {
			return err
		}
		b, err := encode(row)
		if err != nil {
			return err
		}
		txn.Set(t.last(), idRow(row.Id))
		txn.Set(t.deleted(row.Id), b)
		return nil
	})
	return t.info(name, row), err
}

// openByDefault lets everybody into a keyspace that is made without a rule.
func openByDefault(row *keyspacev1.Keyspace) {
	if row.Access == nil {
		row.Access = &keyspacev1.AccessRule{Open: true}
	}
}

// Publish gives a reserved id its name and makes it a keyspace that is served. Its settings are those given, whatever
// Reserve was told: somebody else may have reserved it, with another rule about who may enter. nil: those of Reserve.
// Errors: ErrSettings, ErrNotReserved, ErrExists (the name has been taken since), ErrFormat, the engine's.
func Publish(
	ctx context.Context, eng engine.Store, root []byte, id uint64, settings *keyspacev1.Keyspace,
) (info Info, err error) {
	t := table{root}
	published := false
	err = updateKnowing(ctx, eng, func(txn engine.Txn, doubt bool) error {
		row, err := t.reserved(ctx, txn, id)
		switch {
		case errors.Is(err, ErrNotReserved) && doubt && published:
			return errDone
		case err != nil:
			return err
		}
		name := row.GetName()
		switch _, err := t.lookup(ctx, txn, name); {
		case err == nil:
			return ErrExists
		case !errors.Is(err, ErrNotFound):
			return err
		}
		row.State, row.Name = keyspacev1.State_STATE_ACTIVE, ""
		if settings != nil {
			row.Limits, row.Weight, row.Labels = settings.Limits, settings.Weight, settings.Labels
			row.Access = settings.Access
			openByDefault(row)
			if err := check(row); err != nil {
				return err
			}
		}
		info, published = t.info(name, row), true
		txn.Clear(t.deleted(id))
		t.changed(txn)
		return t.put(txn, name, row)
	})
	return info, err
}

// Reserved returns the reserved keyspaces that are to have a name. Errors: ErrFormat, the engine's.
func Reserved(ctx context.Context, eng engine.Store, root []byte, name string) (all []Info, err error) {
	gone, err := Deleted(ctx, eng, root, 0, 0)
	for _, info := range gone {
		if info.Row.GetState() == keyspacev1.State_STATE_COPYING && info.Name == name {
			all = append(all, info)
		}
	}
	return all, err
}

// Abandon gives a reserved id up: what has been written below it is cleared as what a deleted keyspace leaves. Errors:
// ErrNotReserved, ErrFormat, the engine's.
func Abandon(ctx context.Context, eng engine.Store, root []byte, id uint64) error {
	t := table{root}
	return update(ctx, eng, func(txn engine.Txn) error {
		row, err := t.reserved(ctx, txn, id)
		if err != nil {
			return err
		}
		row.State, row.Deleted = keyspacev1.State_STATE_DELETING, timestamppb.New(time.Now())
		b, err := encode(row)
		if err != nil {
			return err
		}
		shrinks(txn)
		txn.Set(t.deleted(id), b)
		t.changed(txn)
		return nil
	})
}

// AbandonAll gives up all reserved ids. A process that has the store to itself calls it when it starts, because nobody
// goes on with what the process had reserved before. Errors: ErrFormat, the engine's.
func AbandonAll(ctx context.Context, eng engine.Store, root []byte) error {
	gone, err := Deleted(ctx, eng, root, 0, 0)
	for _, info := range gone {
		if err == nil && info.Row.GetState() == keyspacev1.State_STATE_COPYING {
			err = Abandon(ctx, eng, root, info.ID)
		}
	}
	return err
}

// reserved returns the row of a reserved id.
func (t table) reserved(ctx context.Context, r engine.Reader, id uint64) (*keyspacev1.Keyspace, error) {
	b, err := r.Get(ctx, t.deleted(id))
	switch {
	case err != nil:
		return nil, err
	case b == nil:
		return nil, ErrNotReserved
	}
	row, err := decodeDeleted(t.deleted(id), b)
	if err == nil && row.GetState() != keyspacev1.State_STATE_COPYING {
		err = ErrNotReserved
	}
	return row, err
}
