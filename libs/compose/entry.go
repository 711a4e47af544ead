package compose

import (
	"context"
	"errors"

	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/tlsconf"
)

// find returns the keyspace of a name if the client of ctx may enter it. A client that may not enter, and one that
// names a keyspace which does not exist, get the same answer after one read of the table. So neither the answer, nor
// the time that it takes, nor what happens while the store is away shows which keyspaces exist. Because of this read, a
// client that has just been permitted is let in at once. Errors: NotFound, PermissionDenied, Unavailable, the
// context's.
func (s *keyspaces) find(ctx context.Context, name string) (keyspace.Info, error) {
	if info, ok := s.table.Copied(name); ok && admits(ctx, info) {
		return info, nil
	}
	info, err := keyspace.Show(ctx, s.d.Engine, s.root(), name)
	switch {
	case errors.Is(err, keyspace.ErrNotFound), errors.Is(err, keyspace.ErrName):
		return keyspace.Info{}, s.unknown(ctx)
	case err != nil:
		return keyspace.Info{}, notEntered(ctx, err)
	case !admits(ctx, info):
		return keyspace.Info{}, errNoEntry
	}
	return info, nil
}

// notEntered returns the error of a call that could not enter a keyspace because of err. What may pass by itself
// becomes Unavailable, after which clients try again. With any other code etcd's client ends a watch for good.
func notEntered(ctx context.Context, err error) error {
	_, isStatus := status.FromError(err)
	switch {
	case isStatus, ctx.Err() != nil:
		return err
	case errors.Is(err, engine.ErrClosed), errors.Is(err, context.Canceled): // the process is ending
		return errClosing
	case passing(err):
		return errAway
	}
	return etcdapi.Err(err)
}

// unknown returns the answer for a keyspace that does not exist. If everybody may enter every keyspace, it says so.
// Errors: also the context's.
func (s *keyspaces) unknown(ctx context.Context) error {
	if s.d.Config.ClientTLS.ClientCertAuth {
		return errNoEntry
	}
	if err := s.table.Ready(ctx); err != nil {
		return status.FromContextError(err).Err()
	}
	if s.table.Closed() {
		return errNoEntry
	}
	return errNoKeyspace
}

// admits says whether the client of ctx may enter a keyspace.
func admits(ctx context.Context, info keyspace.Info) bool {
	rule := info.Row.GetAccess()
	if keyspace.IsOpen(rule) {
		return true
	}
	id, ok := tlsconf.FromContext(ctx)
	return ok && keyspace.Admits(rule, keyspace.Names{
		CommonName: id.CommonName, DNS: id.DNSNames, URIs: id.URIs, Organizations: id.Organizations,
	})
}

// agreed says whether a call may stay in o, into which info has let it: o was opened under the same rule, and the copy
// of the table has not changed since (changed). So a review of a later copy finds the call, and ends it if the rule has
// changed. If agreed returns false, the caller must decide again.
func (s *keyspaces) agreed(o *occupied, info keyspace.Info, changed <-chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rule := info.Row.GetAccess(); o.rule != rule {
		if !keyspace.SameRule(o.rule, rule) {
			s.endLocked(o, errReopened)
			return false
		}
		o.rule = rule // comparing it the next time is faster
	}
	select {
	case <-changed:
		now, ok := s.table.ByID(o.info.ID)
		return !ok || keyspace.SameRule(now.Row.GetAccess(), o.rule)
	default:
		return true
	}
}
