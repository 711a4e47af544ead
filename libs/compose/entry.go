package compose

import (
	"context"
	"errors"

	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/tlsconf"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// entry is how a call may enter a keyspace.
type entry int

const (
	entryNone   entry = iota // not at all
	entryOpen                // by its certificate, or because everybody may
	entryByUser              // if it acts for a user that the rule names, which the keyspace itself can tell
)

// entryOf tells how a call may enter a keyspace of a rule.
func entryOf(ctx context.Context, rule *keyspacev1.AccessRule, c call) entry {
	switch {
	case admits(ctx, rule):
		return entryOpen
	case len(keyspace.Users(rule)) > 0 && (c.login || etcdapi.HasToken(ctx) || hasCertificate(ctx)):
		return entryByUser
	}
	return entryNone
}

// find returns the keyspace of a name if the client of ctx may enter it. Who is refused, and who names one that does
// not exist, costs one read of the table and gets one answer: neither that nor the time it takes, nor what happens
// while the store is away, tells what there is. By that read who has just been allowed is let in at once. fresh wants
// it in any case. Errors: NotFound, PermissionDenied, Unavailable, the context's.
func (s *keyspaces) find(ctx context.Context, name string, c call, fresh bool) (keyspace.Info, entry, error) {
	if info, ok := s.table.Copied(name); ok && !fresh {
		if how := entryOf(ctx, info.Row.GetAccess(), c); how != entryNone {
			return info, how, nil
		}
	}
	info, err := keyspace.Show(ctx, s.d.Engine, s.root(), name)
	switch {
	case errors.Is(err, keyspace.ErrNotFound), errors.Is(err, keyspace.ErrName):
		return keyspace.Info{}, entryNone, s.unknown(ctx)
	case err != nil:
		return keyspace.Info{}, entryNone, notEntered(ctx, err)
	}
	how := entryOf(ctx, info.Row.GetAccess(), c)
	if how == entryNone {
		return keyspace.Info{}, how, errNoEntry
	}
	return info, how, nil
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
	if s.restricted() {
		return errNoEntry
	}
	return errNoKeyspace
}

// hasCertificate tells whether the client of ctx has one: it may name a user.
func hasCertificate(ctx context.Context) bool {
	_, ok := tlsconf.FromContext(ctx)
	return ok
}

// admits tells whether a rule lets the client of ctx in by its certificate, or because everybody may enter.
func admits(ctx context.Context, rule *keyspacev1.AccessRule) bool {
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
