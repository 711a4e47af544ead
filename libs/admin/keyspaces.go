package admin

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/keyspace"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// keyspaces is the service Keyspaces.
type keyspaces struct {
	adminv1.UnimplementedKeyspacesServer
	Options
}

// Create implements adminv1.KeyspacesServer.
func (k *keyspaces) Create(ctx context.Context, r *adminv1.CreateRequest) (*adminv1.Keyspace, error) {
	if err := k.refuseFirst(r.GetName(), "created"); err != nil {
		return nil, err
	}
	if err := k.checkEnforced(r.GetSettings()); err != nil {
		return nil, err
	}
	s := r.GetSettings()
	wanted := &keyspacev1.Keyspace{
		Limits: s.GetLimits(), Weight: s.GetWeight(), Labels: s.GetLabels(), Access: s.GetAccess(),
	}
	if wanted.Access == nil {
		wanted.Access = &keyspacev1.AccessRule{Open: !k.Host.KnowsClients()}
	}
	// What Prepare does may be permanent, so check first whether the keyspace is possible.
	if err := keyspace.Check(r.GetName(), wanted); err != nil {
		return nil, grpcErr(err)
	}
	if err := k.Host.Prepare(ctx); err != nil {
		return nil, grpcErr(err)
	}
	return shown(keyspace.Create(ctx, k.Engine, k.Root, r.GetName(), wanted))
}

// List implements adminv1.KeyspacesServer. The first keyspace comes before all others.
func (k *keyspaces) List(ctx context.Context, r *adminv1.ListRequest) (*adminv1.ListResponse, error) {
	infos, next, err := k.page(ctx, r.GetAfter(), r.GetLimit())
	if err != nil {
		return nil, grpcErr(err)
	}
	a := &adminv1.ListResponse{Next: next}
	if r.GetAfter() == "" && k.Host.First() != "" {
		a.Keyspaces = append(a.Keyspaces, k.first())
	}
	for _, info := range infos {
		a.Keyspaces = append(a.Keyspaces, ofRow(info))
	}
	return a, nil
}

// page reads a page of the table. next is the name after which the next page begins; "": this is the last.
func (k *keyspaces) page(ctx context.Context, after string, limit uint32) (
	infos []keyspace.Info, next string, err error,
) {
	n := int(limit)
	if n == 0 || n > pageMax {
		n = pageMax
	}
	infos, err = keyspace.List(ctx, k.Engine, k.Root, after, n)
	if err != nil {
		return nil, "", err
	}
	more := len(infos) == n
	bytes := 0
	for i := range infos {
		if bytes += proto.Size(infos[i].Row); bytes > pageBytes {
			infos, more = infos[:i], true // i is not 0, because a row has at most 64 KiB
			break
		}
	}
	if more {
		next = infos[len(infos)-1].Name
	}
	return infos, next, nil
}

// first returns the keyspace that has no row in the table.
func (k *keyspaces) first() *adminv1.Keyspace {
	rule := k.Host.FirstAccess()
	return &adminv1.Keyspace{
		Name: k.Host.First(), State: keyspacev1.State_STATE_ACTIVE, Settings: &adminv1.Settings{Access: rule},
		Open: keyspace.IsOpen(rule), First: true,
	}
}

// Show implements adminv1.KeyspacesServer.
func (k *keyspaces) Show(ctx context.Context, r *adminv1.ShowRequest) (*adminv1.Keyspace, error) {
	if first := k.Host.First(); first != "" && r.GetName() == first {
		return k.first(), nil
	}
	return shown(keyspace.Show(ctx, k.Engine, k.Root, r.GetName()))
}

// Change implements adminv1.KeyspacesServer.
func (k *keyspaces) Change(ctx context.Context, r *adminv1.ChangeRequest) (*adminv1.Keyspace, error) {
	paths := r.GetMask().GetPaths()
	if len(paths) == 0 {
		return nil, status.Error(codes.InvalidArgument, "the mask names no setting")
	}
	// Only check what the request sets. Another release may have stored settings that this one does not apply.
	wanted := new(keyspacev1.Keyspace)
	for _, path := range paths {
		if err := take(wanted, r.GetSettings(), path); err != nil {
			return nil, err
		}
	}
	if err := k.checkEnforced(settingsOf(wanted)); err != nil {
		return nil, err
	}
	f := func(row *keyspacev1.Keyspace) error {
		for _, path := range paths {
			if err := take(row, r.GetSettings(), path); err != nil {
				return err
			}
		}
		return nil
	}
	switch restricts := slices.Contains(paths, "access"); {
	case r.GetName() != "" && r.GetName() == k.Host.First():
		return k.changeFirst(ctx, paths, wanted.Access)
	case restricts && r.GetName() == k.Host.Own():
		return k.changeOwn(ctx, r.GetName(), wanted.Access, f)
	}
	return shown(keyspace.Change(ctx, k.Engine, k.Root, r.GetName(), f))
}

// changeFirst changes the keyspace that has no row in the table: who may enter it, and nothing else.
func (k *keyspaces) changeFirst(
	ctx context.Context, paths []string, rule *keyspacev1.AccessRule,
) (*adminv1.Keyspace, error) {
	if slices.ContainsFunc(paths, func(path string) bool { return path != "access" }) {
		return nil, k.refuseFirst(k.Host.First(), "changed in anything but who may enter it")
	}
	err := k.restrict(ctx, rule, func(ctx context.Context) error {
		return keyspace.ChangeUnlisted(ctx, k.Engine, k.Root, rule)
	})
	if err != nil {
		return nil, grpcErr(err)
	}
	return k.first(), nil
}

// changeOwn changes the keyspace that the process has been started with, among others who may enter it.
func (k *keyspaces) changeOwn(
	ctx context.Context, name string, rule *keyspacev1.AccessRule, f func(*keyspacev1.Keyspace) error,
) (*adminv1.Keyspace, error) {
	var info keyspace.Info
	err := k.restrict(ctx, rule, func(ctx context.Context) (err error) {
		info, err = keyspace.ChangeOwn(ctx, k.Engine, k.Root, name, f)
		return err
	})
	return shown(info, err)
}

// restrict changes who may enter the keyspace that the process has been started with. What Host.Restrict does is for
// good: not for a rule that cannot be.
func (k *keyspaces) restrict(
	ctx context.Context, rule *keyspacev1.AccessRule, change func(context.Context) error,
) error {
	if err := keyspace.Check(k.Host.Own(), &keyspacev1.Keyspace{Access: rule}); err != nil {
		return err
	}
	return k.Host.Restrict(ctx, !keyspace.IsOpen(rule), change)
}

// Delete implements adminv1.KeyspacesServer.
func (k *keyspaces) Delete(ctx context.Context, r *adminv1.DeleteRequest) (*adminv1.DeleteResponse, error) {
	if err := k.refuseFirst(r.GetName(), "deleted"); err != nil {
		return nil, err
	}
	err := keyspace.Delete(ctx, k.Engine, k.Root, r.GetName())
	if errors.Is(err, keyspace.ErrNotFound) {
		err = k.giveUp(ctx, r.GetName(), err)
	}
	if err != nil {
		return nil, grpcErr(err)
	}
	return &adminv1.DeleteResponse{}, nil
}

// giveUp gives up what interrupted restores have left of a keyspace; none is what there is to say if that is nothing.
func (o *Options) giveUp(ctx context.Context, name string, none error) error {
	left, err := keyspace.Reserved(ctx, o.Engine, o.Root, name)
	if err != nil || len(left) == 0 {
		return cmp.Or(err, none)
	}
	for _, info := range left {
		if err := keyspace.Abandon(ctx, o.Engine, o.Root, info.ID); err != nil &&
			!errors.Is(err, keyspace.ErrNotReserved) {
			return err
		}
	}
	return nil
}

// Rename implements adminv1.KeyspacesServer.
func (k *keyspaces) Rename(ctx context.Context, r *adminv1.RenameRequest) (*adminv1.Keyspace, error) {
	if err := k.refuseFirst(r.GetName(), "renamed"); err != nil {
		return nil, err
	}
	if err := k.refuseFirst(r.GetTo(), "the new name of another"); err != nil {
		return nil, err
	}
	return shown(keyspace.Rename(ctx, k.Engine, k.Root, r.GetName(), r.GetTo()))
}

// shown returns the answer that shows a keyspace.
func shown(info keyspace.Info, err error) (*adminv1.Keyspace, error) {
	if err != nil {
		return nil, grpcErr(err)
	}
	return ofRow(info), nil
}

func ofRow(info keyspace.Info) *adminv1.Keyspace {
	row := info.Row
	return &adminv1.Keyspace{
		Name: info.Name, Id: info.ID, State: row.GetState(), Created: row.GetCreated(), Settings: settingsOf(row),
		Open: keyspace.IsOpen(row.GetAccess()),
	}
}
