package keyspace

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/engine"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// formatUnlisted is the format of the row with settings of the keyspace that has none in the table: the format, and a
// headwater.keyspace.v1.Keyspace of which only the access rule counts.
const formatUnlisted = 1

// UnlistedAccess returns who may enter the keyspace that a store of a process's own has from the beginning, and that is
// not in the table below root; nil: everybody. Errors: ErrFormat, the engine's.
func UnlistedAccess(ctx context.Context, eng engine.Store, root []byte) (rule *keyspacev1.AccessRule, err error) {
	t := table{root}
	err = view(ctx, eng, func(r engine.Reader) error {
		row, err := t.readUnlisted(ctx, r)
		rule = row.GetAccess()
		return err
	})
	return rule, err
}

// ChangeUnlisted changes who may enter the keyspace that is not in the table below root. Before a rule is written that
// does not let everybody in, the caller makes sure that no earlier release can serve the keyspace. Errors: ErrSettings,
// ErrFormat, the engine's.
func ChangeUnlisted(ctx context.Context, eng engine.Store, root []byte, rule *keyspacev1.AccessRule) error {
	if err := checkRule(rule); err != nil {
		return err
	}
	t := table{root}
	return update(ctx, eng, func(txn engine.Txn) error {
		row, err := t.readUnlisted(ctx, txn)
		if err != nil {
			return err
		}
		row.Access = rule
		if IsOpen(rule) {
			row.Access = nil
		}
		if err := check(row); err != nil {
			return err
		}
		t.changed(txn)
		if proto.Size(row) == 0 {
			txn.Clear(t.unlisted())
			return nil
		}
		b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{formatUnlisted}, row)
		if err == nil {
			txn.Set(t.unlisted(), b)
		}
		return err
	})
}

// readUnlisted reads the row; an empty one if there is none. Fields that this release does not know are kept.
func (t table) readUnlisted(ctx context.Context, r engine.Reader) (*keyspacev1.Keyspace, error) {
	row := new(keyspacev1.Keyspace)
	b, err := r.Get(ctx, t.unlisted())
	if err != nil || b == nil {
		return row, err
	}
	if len(b) == 0 || b[0] != formatUnlisted || proto.Unmarshal(b[1:], row) != nil {
		return nil, rowErr("default", ErrFormat)
	}
	return row, nil
}
