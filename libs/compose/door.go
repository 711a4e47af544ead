package compose

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// door is who may enter the first keyspace. It is replaced when that changes: the keyspace itself stays open, so what
// goes on in it ends by the door that has let it in.
type door struct {
	rule  *keyspacev1.AccessRule
	ended context.Context // ends when the door is replaced
	end   context.CancelFunc
}

func newDoor(rule *keyspacev1.AccessRule) *door {
	ended, end := context.WithCancel(context.Background())
	return &door{rule, ended, end}
}

// within returns ctx for what is to end with the door. stop is called when it has ended.
func (d *door) within(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(d.ended, cancel)
	return ctx, func() { forget(); cancel() }
}

// setDoor has a rule be obeyed from now on, and ends what was let in by another.
func (s *keyspaces) setDoor(rule *keyspacev1.AccessRule) {
	was := s.door.Load()
	if keyspace.SameRule(was.rule, rule) {
		return
	}
	s.door.Store(newDoor(rule))
	was.end()
	s.d.Log.Info("who may enter the keyspace has changed, its streams end", "keyspace", s.firstName())
}

// readDoor reads who may enter the first keyspace, and obeys it. Errors: the store's.
func (s *keyspaces) readDoor(ctx context.Context) error {
	s.doorMu.Lock() // what is read later counts
	defer s.doorMu.Unlock()
	var rule *keyspacev1.AccessRule
	var err error
	if s.d.Kind.IsPod() {
		rule, err = s.rowRule(ctx)
	} else {
		rule, err = keyspace.UnlistedAccess(ctx, s.d.Engine, s.root())
	}
	if err == nil {
		s.setDoor(rule)
	}
	return err
}

// rowRule is what the row of the first keyspace of a pod says. Where the row is gone the pod is about to end.
func (s *keyspaces) rowRule(ctx context.Context) (*keyspacev1.AccessRule, error) {
	info, err := keyspace.Show(ctx, s.d.Engine, s.root(), s.firstName())
	if err != nil && !errors.Is(err, keyspace.ErrNotFound) {
		return nil, err
	}
	id := s.first.Place.ID
	if err == nil && info.ID == id {
		return info.Row.GetAccess(), nil
	}
	if info, ok := s.table.ByID(id); ok { // it has been renamed
		return info.Row.GetAccess(), nil
	}
	return s.door.Load().rule, nil
}

// restricted tells whether there is a keyspace that not everybody may enter.
func (s *keyspaces) restricted() bool {
	return s.table.Closed() || !keyspace.IsOpen(s.door.Load().rule)
}

// byUsers tells whether there is a keyspace that users may enter by their names.
func (s *keyspaces) byUsers() bool {
	return s.table.ByUsers() || len(keyspace.Users(s.door.Load().rule)) > 0
}

// enterFirst enters the first keyspace. Errors: errNoEntry, of reading users and roles.
func (s *keyspaces) enterFirst(ctx context.Context, c call) (visit, error) {
	d := s.door.Load()
	v := visit{k: s.first, door: d, stream: c.kind == callStream}
	if !admits(ctx, d.rule) {
		if err := s.admitFirst(ctx, d, c); err != nil {
			return visit{}, err
		}
		if c.login {
			v.ctx = etcdapi.AtDoor(ctx, d.rule.GetUsers())
		}
	}
	s.first.tally.entered(c.kind)
	return v, nil
}

// admitFirst lets a call into the first keyspace whose certificate does not.
func (s *keyspaces) admitFirst(ctx context.Context, d *door, c call) error {
	users := keyspace.Users(d.rule)
	var ok bool
	var err error
	switch {
	case c.login && len(users) > 0:
		return nil
	case len(users) > 0:
		ok, err = s.first.guard.ActsFor(ctx, users)
	}
	if err == nil && !ok && s.d.Kind.IsPod() && c.service == pb.Lease_ServiceDesc.ServiceName {
		ok, err = s.first.guard.IsPeer(ctx)
	}
	switch {
	case err != nil:
		return notEntered(ctx, err)
	case !ok:
		return errNoEntry
	}
	return nil
}

// refusal is the answer to a call that errNoEntry refuses. While users may enter some keyspace by their names, it is
// what etcd says to who is no user, whatever the keyspace is, and whether or not there is one: a name that may not be
// entered is not to be told from one that may be entered with the right password. dec decodes a unary request.
func (s *keyspaces) refusal(ctx context.Context, c call, dec decoder) error {
	if err := s.table.Ready(ctx); err != nil {
		return notEntered(ctx, err)
	}
	switch {
	case !s.byUsers() && !c.named:
		return errNoEntry
	case c.login:
		r := new(pb.AuthenticateRequest)
		if err := dec(r); err != nil {
			return err
		}
		err := s.strangers.Refuse(ctx, r.GetPassword())
		s.d.Log.Warn("authentication refused", "user", r.GetName(), "error", err)
		return etcdapi.Err(err)
	case etcdapi.HasToken(ctx):
		return rpctypes.ErrGRPCInvalidAuthToken
	}
	return rpctypes.ErrGRPCUserEmpty
}
