package etcdapi

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/headwaterdb/headwater/libs/auth"
)

// ActsFor tells whether a call acts for one of users, by its token or its certificate, under users and roles of now.
// While authentication is disabled it acts for nobody. Errors: of reading users and roles, the context's.
func (g *Guard) ActsFor(ctx context.Context, users []string) (bool, error) {
	k, err := g.current(ctx)
	if err != nil {
		return false, err
	}
	ok, err := g.actsFor(ctx, k, users)
	if ok || err != nil || !g.o.Shared {
		return ok, err
	}
	now, err := g.fresh(ctx) // nobody is refused because of users and roles that others have changed already
	if err != nil || now.Number <= k.Number {
		return false, err
	}
	return g.actsFor(ctx, now, users)
}

// KnowsActor is ActsFor by the users and roles that the process has read last: it reads nothing and never waits.
func (g *Guard) KnowsActor(ctx context.Context, users []string) bool {
	k := g.known.Load()
	id, _, err := g.identify(k, g.credentialOf(ctx))
	return err == nil && isOneOf(k.State, id, users)
}

func (g *Guard) actsFor(ctx context.Context, k *known, users []string) (bool, error) {
	k, id, err := g.caller(ctx, k)
	switch {
	case errors.Is(err, auth.ErrInvalidAuthToken):
		return false, nil
	case err != nil:
		return false, err
	}
	return isOneOf(k.State, id, users), nil
}

func isOneOf(s *auth.State, id auth.Identity, users []string) bool {
	name, ok := s.ActsFor(id)
	return ok && slices.Contains(users, name)
}

// IsPeer tells whether a call comes from another process of the deployment, on behalf of clients that have been asked
// for there (AsPeer). Errors: of reading users and roles.
func (g *Guard) IsPeer(ctx context.Context) (bool, error) {
	if len(metadata.ValueFromIncomingContext(ctx, peerKey)) == 0 {
		return false, nil
	}
	k, err := g.current(ctx)
	return err == nil && g.isPeer(ctx, k), err
}

// HasToken tells whether a call brings a token of whatever kind, good or not.
func HasToken(ctx context.Context) bool {
	_, ok := tokenOf(ctx)
	return ok
}

// tokenOf is the token that a call brings, as it came.
func tokenOf(ctx context.Context) (token string, ok bool) {
	for _, key := range []string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger} {
		if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
			return v[0], true
		}
	}
	return "", false
}

// NamedByUser is the metadata in which a call for a token says that its user has named the keyspace (user@keyspace):
// the token then names it too, for calls that nothing else tells their keyspace.
const NamedByUser = "headwater-keyspace-of-user"

// tokenMark stands between a token and the keyspace that it names. No token contains it.
const tokenMark = "@"

// TokenKeyspace is the keyspace that the token of a call names, which says nothing of whether it is good there; "": it
// names none, or there is no token.
func TokenKeyspace(ctx context.Context) string {
	token, _ := tokenOf(ctx)
	_, name, _ := strings.Cut(token, tokenMark)
	return name
}

// named is a token that is answered to a call: it names the keyspace if the user has.
func named(ctx context.Context, token string) string {
	if v := metadata.ValueFromIncomingContext(ctx, NamedByUser); len(v) == 1 {
		return token + tokenMark + v[0]
	}
	return token
}

// HasUser tells whether the keyspace has a user of a name. Errors: of reading users and roles.
func (g *Guard) HasUser(ctx context.Context, name string) (bool, error) {
	k, err := g.fresh(ctx)
	return err == nil && k.HasUser(name), err
}

// doorKey is the key of AtDoor's value.
type doorKey struct{}

// AtDoor returns the context of an Authenticate of a client that may not enter the keyspace but as one of users. Any
// failure of it, other than that too many ask, is ErrAuthFailed and takes as long: the client does not learn whether
// there is such a user, whether authentication is enabled, or whether there is the keyspace.
func AtDoor(ctx context.Context, users []string) context.Context {
	return context.WithValue(ctx, doorKey{}, users)
}

// authenticateAtDoor is authenticate for a client that may enter as one of users only.
func (g *Guard) authenticateAtDoor(ctx context.Context, users []string, name, password string) (string, error) {
	token, err := g.authenticate(ctx, name, password)
	switch {
	case errors.Is(err, auth.ErrAuthNotEnabled):
		return "", g.o.Passwords.Refuse(ctx, password)
	case errors.Is(err, auth.ErrNoPasswordUser), err == nil && !slices.Contains(users, name):
		return "", auth.ErrAuthFailed
	}
	return token, err
}
