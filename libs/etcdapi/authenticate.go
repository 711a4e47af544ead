package etcdapi

import (
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// authenticate makes a token for a user. Errors: those of auth.Passwords.Check, of signing, and of reading users and
// roles.
func (g *Guard) authenticate(ctx context.Context, name, password string) (string, error) {
	for range carriesMax {
		k, err := g.current(ctx)
		if err != nil {
			return "", err
		}
		if err := g.o.Passwords.Check(ctx, k.State, name, password); err != nil {
			return "", err
		}
		if g.o.JWT != nil {
			return g.o.JWT.Sign(g.o.Keyspace, k.State, name, g.now())
		}
		signing, err := g.signing(ctx, k)
		if err != nil {
			return "", err
		}
		if signing.Number == k.Number { // otherwise the password may have changed since
			return g.tokens.Sign(signing.State, name, g.now())
		}
	}
	return "", mvcc.ErrAuthOld
}

// signing returns users and roles with a secret for signing. They are k if k has one.
func (g *Guard) signing(ctx context.Context, k *known) (*known, error) {
	if !g.tokens.SecretDue(k.State, g.now()) {
		return k, nil
	}
	_, err := g.store.UpdateAuth(ctx, func(number uint64, rows []mvcc.AuthRow) (uint64, []mvcc.AuthRow, error) {
		state, err := newState(number, rows)
		if err != nil {
			return 0, nil, err
		}
		c, err := g.tokens.RotateSecret(state, g.now())
		set := make([]mvcc.AuthRow, len(c.Rows))
		for i, r := range c.Rows {
			set[i] = mvcc.AuthRow(r)
		}
		return c.Number, set, err
	})
	if err != nil {
		return nil, err
	}
	return g.load(ctx, k)
}

// refused logs that somebody could not be authenticated. It does not log the password.
func (g *Guard) refused(name string, err error) {
	if !errors.Is(err, auth.ErrAuthNotEnabled) && !errors.Is(err, context.Canceled) {
		g.o.Log.Warn("authentication refused", "user", name, "error", err)
	}
}
