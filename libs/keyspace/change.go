package keyspace

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwaterdb/headwater/libs/engine"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// Limits of settings.
const (
	// WeightMax bounds the weight of a keyspace.
	WeightMax = 1000
	// LabelsMax bounds the number of labels of a keyspace. LabelBytesMax bounds the bytes of a label's key, and those
	// of its value.
	LabelsMax     = 64
	LabelBytesMax = 255
	// rowBytesMax bounds a row, including what later releases may put into it.
	rowBytesMax = 64 << 10
)

// Check checks the name and the settings of a keyspace that is to be created. It does not look whether the keyspace
// exists. settings may be nil. Errors: ErrName, ErrSettings.
func Check(name string, settings *keyspacev1.Keyspace) error {
	if err := checkName(name); err != nil {
		return err
	}
	return check(settings)
}

// check refuses settings that no keyspace may have.
func check(row *keyspacev1.Keyspace) error {
	if w := row.GetWeight(); w > WeightMax {
		return fmt.Errorf("%w: the weight is %d, and at most %d is possible", ErrSettings, w, WeightMax)
	}
	if n := len(row.GetLabels()); n > LabelsMax {
		return fmt.Errorf("%w: %d labels, and at most %d are possible", ErrSettings, n, LabelsMax)
	}
	for key, value := range row.GetLabels() {
		if key == "" || len(key) > LabelBytesMax || len(value) > LabelBytesMax {
			return fmt.Errorf("%w: label %.32q: need 1 to %d bytes, and a value of at most as many",
				ErrSettings, key, LabelBytesMax)
		}
	}
	if err := checkRule(row.GetAccess()); err != nil {
		return err
	}
	if n := proto.Size(row); n > rowBytesMax {
		return fmt.Errorf("%w: the settings take %d bytes, and at most %d are possible", ErrSettings, n, rowBytesMax)
	}
	return nil
}

// changed counts a change of the table, so that those who wait for one learn of it.
func (t table) changed(txn engine.Txn) { txn.Add(t.version(), 1) }

// put writes the row of a keyspace. If it has default settings only, the row has the form that earlier releases read.
func (t table) put(txn engine.Txn, name string, row *keyspacev1.Keyspace) error {
	if proto.Equal(row, &keyspacev1.Keyspace{Id: row.GetId(), State: keyspacev1.State_STATE_ACTIVE}) {
		txn.Set(t.name(name), idRow(row.GetId()))
		return nil
	}
	b, err := encode(row)
	if err == nil {
		txn.Set(t.name(name), b)
	}
	return err
}

// Create creates the keyspace name below root. settings, which may be nil, gives limits, weight, access, labels, and
// whether the keyspace has no prefix; its other fields are ignored. There can be only one keyspace without a prefix,
// and only once. Errors: ErrExists (the name, or a keyspace without a prefix), ErrName, ErrSettings, ErrFormat, the
// engine's.
func Create(
	ctx context.Context, eng engine.Store, root []byte, name string, settings *keyspacev1.Keyspace,
) (Info, error) {
	if err := Check(name, settings); err != nil {
		return Info{}, err
	}
	row := new(keyspacev1.Keyspace)
	if settings != nil {
		row = proto.Clone(settings).(*keyspacev1.Keyspace)
	}
	row.State, row.Birth = keyspacev1.State_STATE_ACTIVE, newBirth()
	row.Created, row.Deleted, row.Name = timestamppb.New(time.Now()), nil, ""
	if row.Access == nil {
		row.Access = &keyspacev1.AccessRule{Open: true}
	}
	t := table{root}
	var made Info
	err := updateKnowing(ctx, eng, func(txn engine.Txn, doubt bool) (err error) {
		if doubt {
			if made, err = t.born(ctx, txn, row); !errors.Is(err, ErrNotFound) {
				return cmp.Or(err, errDone)
			}
		}
		switch _, err := t.lookup(ctx, txn, name); {
		case err == nil:
			return ErrExists
		case !errors.Is(err, ErrNotFound):
			return err
		}
		if row.Id, err = t.nextID(ctx, txn); err != nil {
			return err
		}
		if row.Unprefixed {
			if was, err := txn.Get(ctx, t.unprefixed()); err != nil || was != nil {
				return cmp.Or(err, ErrExists)
			}
			txn.Set(t.unprefixed(), idRow(row.Id))
		}
		made = t.info(name, row)
		txn.Set(t.last(), idRow(row.Id))
		t.changed(txn)
		return t.put(txn, name, row)
	})
	if err != nil {
		return Info{}, err
	}
	return made, nil
}

// newBirth is what tells a keyspace from all others.
func newBirth() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// born finds the keyspace that an attempt whose outcome is not known may have created: others may have renamed or
// deleted it since. Errors: ErrNotFound, ErrFormat, the engine's.
func (t table) born(ctx context.Context, r engine.Reader, tried *keyspacev1.Keyspace) (made Info, err error) {
	gone, err := t.deletedFrom(ctx, r, t.deleted(tried.Id), t.deleted(tried.Id+1), 1)
	if err != nil {
		return Info{}, err
	}
	if len(gone) > 0 && gone[0].GetBirth() == tried.Birth {
		return t.info(gone[0].GetName(), gone[0]), nil
	}
	err = scan(ctx, r, engine.Range{Begin: t.key(0, 'n'), End: t.key(0, 'n'+1)}, func(key, value []byte) error {
		row, err := decode(value)
		if err == nil && row.GetId() == tried.Id && row.GetBirth() == tried.Birth {
			made = t.info(string(key[len(t.root)+2:]), row)
		}
		return err
	})
	if err == nil && made.Row == nil {
		err = ErrNotFound
	}
	return made, err
}

// Change changes limits, weight, access and labels of the keyspace name below root. f gets the present settings and
// changes them; it may be called several times. Other fields stay as they are. Errors: f's, ErrNotFound, ErrName,
// ErrSettings, ErrFormat, the engine's.
func Change(
	ctx context.Context, eng engine.Store, root []byte, name string, f func(settings *keyspacev1.Keyspace) error,
) (info Info, err error) {
	return change(ctx, eng, root, name, (*Info).checkOwn, f)
}

// ChangeOwn is Change for a keyspace that has pods of its own, whose access rule they obey. Before a rule is written
// that does not let everybody in, the caller makes sure that no pod of an earlier release serves the keyspace.
func ChangeOwn(
	ctx context.Context, eng engine.Store, root []byte, name string, f func(settings *keyspacev1.Keyspace) error,
) (info Info, err error) {
	return change(ctx, eng, root, name, (*Info).checkShares, f)
}

func change(
	ctx context.Context, eng engine.Store, root []byte, name string,
	may func(*Info) error, f func(settings *keyspacev1.Keyspace) error,
) (info Info, err error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	t := table{root}
	err = update(ctx, eng, func(txn engine.Txn) (err error) {
		if info, err = t.lookup(ctx, txn, name); err != nil {
			return err
		}
		wanted := proto.Clone(info.Row).(*keyspacev1.Keyspace)
		if err := f(wanted); err != nil {
			return err
		}
		row := info.Row
		row.Limits, row.Weight, row.Access, row.Labels = wanted.Limits, wanted.Weight, wanted.Access, wanted.Labels
		if err := check(row); err != nil {
			return err
		}
		if !info.Shared() && IsOpen(row.Access) {
			row.Access = nil // so that earlier releases know the row
		}
		if err := may(&info); err != nil {
			return err
		}
		t.changed(txn)
		return t.put(txn, name, row)
	})
	return info, err
}

// checkOwn refuses what only pods that have the keyspace to themselves can change, and what they do not keep.
func (i *Info) checkOwn() error {
	if !i.Shared() && !IsOpen(i.Row.GetAccess()) {
		return fmt.Errorf("%w: %s has pods of its own: ask one of them to change who may enter", ErrSettings, i.Name)
	}
	return i.checkShares()
}

// checkShares refuses what pods do not keep that have the keyspace to themselves.
func (i *Info) checkShares() error {
	switch row := i.Row; {
	case i.Shared():
	case row.Limits != nil, row.Weight > 1:
		return fmt.Errorf("%w: %s has pods of its own, which apply no limits and weights", ErrSettings, i.Name)
	}
	return nil
}

// Rename gives a keyspace another name. Its rows, its id and its clients' streams stay. From then on nothing is found
// under the old name. Errors: ErrNotFound, ErrExists (the new name), ErrName, ErrFormat, the engine's.
func Rename(ctx context.Context, eng engine.Store, root []byte, name, to string) (info Info, err error) {
	if err := errors.Join(checkName(name), checkName(to)); err != nil {
		return Info{}, err
	}
	t := table{root}
	var tried uint64 // the id that an earlier attempt may have renamed
	err = updateKnowing(ctx, eng, func(txn engine.Txn, doubt bool) error {
		was, err := t.lookup(ctx, txn, name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		there, thereErr := t.lookup(ctx, txn, to)
		switch {
		case doubt && thereErr == nil && there.ID == tried:
			info = there
			return errDone
		case err != nil:
			return err
		case thereErr == nil:
			return ErrExists
		case !errors.Is(thereErr, ErrNotFound):
			return thereErr
		}
		tried, info = was.ID, t.info(to, was.Row)
		txn.Clear(t.name(name))
		t.changed(txn)
		return t.put(txn, to, was.Row)
	})
	return info, err
}

// Delete deletes the keyspace name below root. From then on it is not served and the name is free. Clear removes its
// rows. A deletion cannot be undone. Errors: ErrNotFound, ErrName, ErrFormat, the engine's.
func Delete(ctx context.Context, eng engine.Store, root []byte, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	t := table{root}
	var tried uint64 // the id that an earlier attempt may have deleted
	return updateKnowing(ctx, eng, func(txn engine.Txn, doubt bool) error {
		if doubt {
			if gone, err := txn.Get(ctx, t.deleted(tried)); err != nil || gone != nil {
				return cmp.Or(err, errDone) // a keyspace of the same name may have been created since
			}
		}
		info, err := t.lookup(ctx, txn, name)
		if err != nil {
			return err
		}
		tried = info.ID
		shrinks(txn)
		row := info.Row
		row.State, row.Name = keyspacev1.State_STATE_DELETING, name
		row.Deleted = timestamppb.New(time.Now())
		b, err := encode(row)
		if err != nil {
			return err
		}
		txn.Clear(t.name(name))
		txn.Set(t.deleted(info.ID), b)
		t.changed(txn)
		return nil
	})
}
