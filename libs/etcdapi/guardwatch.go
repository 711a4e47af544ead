package etcdapi

import (
	"context"
	"errors"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/watch"
)

// watchAccess says what the client of a watch stream may watch. It implements watch.Access.
type watchAccess struct {
	g *Guard
	c credential

	mu  sync.Mutex
	id  auth.Identity // as it was identified last
	err error
}

var _ watch.Access = (*watchAccess)(nil)

// newWatchAccess returns the access of the stream of a call.
func (g *Guard) newWatchAccess(ctx context.Context) *watchAccess {
	return &watchAccess{g: g, c: g.credentialOf(ctx)}
}

// Ready implements watch.Access. A token may have expired, or may be valid by now. The head has just been read.
func (a *watchAccess) Ready(ctx context.Context) error {
	k, err := a.g.current(ctx)
	if err != nil || !k.Enabled() {
		return err
	}
	_, id, err := a.g.caller(ctx, k)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
	if err == nil {
		a.id = id
	}
	return nil
}

// MayWatch implements watch.Access. An existing watch goes on when its token expires, and under a JWT of an older
// revision. It does not go on under a token that a new password has ended.
func (a *watchAccess) MayWatch(key, end string, again bool) (reason string) {
	k := a.g.known.Load()
	if !k.Enabled() {
		return ""
	}
	a.mu.Lock()
	id, err := a.id, a.err
	a.mu.Unlock()
	if again && id.User == "" { // it was created while authentication was disabled
		id, _, err = a.g.identify(k, a.c)
	}
	switch {
	case again && id.User != "":
		err = k.MayGoOn(id, []byte(key), []byte(end))
	case err == nil:
		err = k.MayRead(id, []byte(key), []byte(end))
	}
	return watchReason(err)
}

// watchReason returns etcd's text for a watch that is not allowed.
func watchReason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, auth.ErrInvalidAuthToken):
		return rpctypes.ErrGRPCInvalidAuthToken.Error()
	case errors.Is(err, auth.ErrAuthOldRevision):
		return rpctypes.ErrGRPCAuthOldRevision.Error()
	case errors.Is(err, auth.ErrUserEmpty):
		return rpctypes.ErrGRPCUserEmpty.Error()
	}
	return rpctypes.ErrGRPCPermissionDenied.Error()
}
