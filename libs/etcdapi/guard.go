package etcdapi

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// AuthStore is what a Guard needs of the keyspace; *mvcc.Store is one and says what each method does.
type AuthStore interface {
	HeadReader
	AuthNumber() uint64
	ReadAuth(ctx context.Context) (number uint64, rows []mvcc.AuthRow, rev int64, err error)
	UpdateAuth(ctx context.Context, change mvcc.AuthChange) (rev int64, err error)
	LeaseKeys(ctx context.Context, id int64) (keys [][]byte, rev int64, err error)
	AttachedKeys(ctx context.Context, visit func(key []byte) error) error
}

// GuardOptions configure a Guard.
type GuardOptions struct {
	// Keyspace identifies the keyspace: its cluster id.
	Keyspace uint64
	// JWT, if set, makes the tokens. Otherwise they are simple ones.
	JWT *auth.JWT
	// TokenTTL is the lifetime of a simple token, at least a day.
	TokenTTL time.Duration
	// Passwords are shared by the process; nil: the Guard has its own, with the default cost.
	Passwords *auth.Passwords
	// CertName returns the common name of the client's verified certificate, and whether there is such a certificate.
	// The name is the user of calls without a token; it may be empty. nil: certificates name no users.
	CertName func(context.Context) (name string, ok bool)
	// Shared says that other processes also change users and roles.
	Shared bool
	Log    *slog.Logger
}

// carriesMax bounds how often a request is decided again because users and roles have changed in the meantime.
const carriesMax = 16

// Guard decides who may do what in a keyspace. All methods may be called from any goroutine.
type Guard struct {
	store  AuthStore
	o      GuardOptions
	tokens auth.Simple
	now    func() time.Time

	known   atomic.Pointer[known]
	loading chan struct{} // has an element while somebody reads users and roles
	changed atomic.Pointer[func()]
}

// known is a State, with the Access of a user who may do everything under it.
type known struct {
	*auth.State
	all *mvcc.Access
}

// NewGuard returns the guard of a keyspace. It reads users and roles at its first request.
func NewGuard(store AuthStore, o GuardOptions) *Guard {
	if o.Passwords == nil {
		o.Passwords = auth.NewPasswords(auth.CostDefault)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Guard{
		store: store, o: o, now: time.Now, loading: make(chan struct{}, 1),
		tokens: auth.Simple{Keyspace: o.Keyspace, TTL: o.TokenTTL},
	}
	nobody, _ := auth.NewState(0, nil) // no rows that could be wrong
	g.known.Store(&known{nobody, &mvcc.Access{Number: nobody.Number}})
	return g
}

// OnChange sets a function that is called after the Guard has learned of a change of users and roles.
func (g *Guard) OnChange(f func()) { g.changed.Store(&f) }

// current returns the newest users and roles that the process knows. Errors: those of reading them.
func (g *Guard) current(ctx context.Context) (*known, error) {
	if k := g.known.Load(); k.Number >= g.store.AuthNumber() {
		return k, nil
	}
	return g.load(ctx, nil)
}

// fresh returns users and roles that are at least as new as the call.
func (g *Guard) fresh(ctx context.Context) (*known, error) {
	if g.o.Shared {
		if _, err := g.store.Head(ctx); err != nil { // it also gives their number
			return nil, err
		}
	}
	return g.current(ctx)
}

// load reads users and roles, unless somebody has read others than old since; nil: unless they are new enough.
func (g *Guard) load(ctx context.Context, old *known) (*known, error) {
	select {
	case g.loading <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-g.loading }()
	was := g.known.Load()
	if old == nil && was.Number >= g.store.AuthNumber() || old != nil && was != old {
		return was, nil
	}
	number, rows, _, err := g.store.ReadAuth(ctx)
	if err != nil {
		return nil, err
	}
	state, err := newState(number, rows)
	if err != nil {
		return nil, err
	}
	k := &known{state, &mvcc.Access{Number: state.Number}}
	g.known.Store(k)
	if changed := g.changed.Load(); changed != nil && k.Number != was.Number {
		(*changed)()
	}
	return k, nil
}

// newState is auth.NewState for rows of the store. Errors: mvcc.ErrCorrupt.
func newState(number uint64, rows []mvcc.AuthRow) (*auth.State, error) {
	own := make([]auth.Row, len(rows))
	for i, r := range rows {
		own[i] = auth.Row(r)
	}
	s, err := auth.NewState(number, own)
	if err != nil {
		return nil, errors.Join(mvcc.ErrCorrupt, err)
	}
	return s, nil
}

// Refresh makes the Guard know users and roles with at least the given number, if they exist. It returns the number of
// those that it knows. It is called before watches are shown what was written under them. Errors: those of reading
// them, the context's.
func (g *Guard) Refresh(ctx context.Context, number uint64) (known uint64, err error) {
	// A load under way may have read too early. The next one has not.
	for range 2 {
		k := g.known.Load()
		if k.Number >= number {
			break
		}
		if _, err := g.load(ctx, k); err != nil {
			return 0, err
		}
	}
	return g.known.Load().Number, nil
}

// credential is what a call has to identify its user.
type credential struct {
	token    string
	hasToken bool
	name     string // of a verified certificate
	hasCert  bool
}

// credentialOf returns the credential of a call: its token or, if it has none, the common name of its certificate.
func (g *Guard) credentialOf(ctx context.Context) credential {
	if token, ok := tokenOf(ctx); ok {
		token, _, _ = strings.Cut(strings.TrimPrefix(token, "Bearer "), tokenMark)
		return credential{token: token, hasToken: true}
	}
	if g.o.CertName == nil || len(metadata.ValueFromIncomingContext(ctx, gatewayKey)) > 0 {
		return credential{}
	}
	name, ok := g.o.CertName(ctx)
	return credential{name: name, hasCert: ok}
}

// asCaller returns ctx for calls that the process's own client makes in the name of a call, with its token. The client
// itself adds the certificate.
func asCaller(ctx context.Context) context.Context {
	out := metadata.MD{}
	for _, key := range []string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger} {
		if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
			out[key] = v[:1]
		}
	}
	return metadata.NewOutgoingContext(ctx, out)
}

// gatewayKey is metadata of calls through a gateway. Their certificate is the gateway's.
const gatewayKey = "grpcgateway-accept"

// identify returns the user that a credential stands for. Errors: auth.ErrInvalidAuthToken.
func (g *Guard) identify(k *known, c credential) (id auth.Identity, newer bool, err error) {
	switch {
	case !c.hasToken:
		return auth.Identity{User: c.name, Nameless: c.hasCert && c.name == ""}, false, nil
	case g.o.JWT != nil:
		id, err = g.o.JWT.Parse(g.o.Keyspace, c.token, g.now())
		return id, false, err
	}
	return g.tokens.Parse(k.State, c.token, g.now())
}

// caller returns the user of a call, and users and roles that may be newer than k: a token may be signed with a secret
// that another process has just made.
func (g *Guard) caller(ctx context.Context, k *known) (*known, auth.Identity, error) {
	c := g.credentialOf(ctx)
	id, newer, err := g.identify(k, c)
	if newer && g.o.Shared {
		if k, err = g.load(ctx, k); err != nil {
			return nil, auth.Identity{}, err
		}
		id, _, err = g.identify(k, c)
	}
	return k, id, err
}

// need checks the permission that a request needs.
type need func(*auth.State, auth.Identity) error

// open returns the Access of all requests while authentication is disabled; nil: it is enabled, or may be by now.
func (g *Guard) open() *mvcc.Access {
	k := g.known.Load()
	if k.Enabled() || k.Number < g.store.AuthNumber() {
		return nil
	}
	return k.all
}

// decide checks under given users and roles whether a call has the permission that it needs. It returns the Access with
// which the call is carried out.
func (g *Guard) decide(ctx context.Context, k *known, may need) (*mvcc.Access, error) {
	if !k.Enabled() {
		return k.all, nil
	}
	k, id, err := g.caller(ctx, k)
	if err != nil {
		return nil, err
	}
	if err := may(k.State, id); err != nil {
		return nil, err
	}
	if k.Everything(id) {
		return k.all, nil
	}
	return &mvcc.Access{Number: k.Number, MayWrite: func(key []byte) bool {
		return k.MayWrite(id, key, nil) == nil
	}}, nil
}

// settle is decide, but it refuses nothing because of users and roles that have changed already. It also returns the
// users and roles that decided.
func (g *Guard) settle(ctx context.Context, k *known, may need) (*known, *mvcc.Access, error) {
	a, err := g.decide(ctx, k, may)
	if err == nil || !g.o.Shared {
		return k, a, err
	}
	now, fresh := g.fresh(ctx)
	if fresh != nil {
		return k, nil, fresh
	}
	if now.Number > k.Number {
		a, err = g.decide(ctx, now, may)
	}
	return now, a, err
}

// carry carries out a request that has the permission it needs. If users and roles have changed since those that
// decided, do fails with mvcc.ErrAuthOld and does nothing, and carry decides again.
func (g *Guard) carry(ctx context.Context, may need, do func(*mvcc.Access) error) error {
	for n := 0; ; n++ {
		k, err := g.current(ctx)
		if err != nil {
			return err
		}
		_, a, err := g.settle(ctx, k, may)
		if err != nil {
			return err
		}
		if err = do(a); !errors.Is(err, mvcc.ErrAuthOld) || n == carriesMax {
			return err
		}
	}
}

// check checks whether a call has a permission now. Errors: those of package auth, and of reading users and roles.
func (g *Guard) check(ctx context.Context, may need) error {
	k, err := g.fresh(ctx)
	if err == nil {
		_, err = g.decide(ctx, k, may)
	}
	return err
}

// during carries out a request that only reads, in more than one transaction. It checks the permission before and, if
// users and roles have changed in the meantime, also after. do can ask for further permissions.
func (g *Guard) during(ctx context.Context, first need, do func(may func(need) error) error) error {
	for n := 0; ; n++ {
		k, err := g.current(ctx)
		if err != nil {
			return err
		}
		if k, _, err = g.settle(ctx, k, first); err != nil {
			return err
		}
		may := func(more need) error {
			_, _, err := g.settle(ctx, k, more)
			return err
		}
		if err := do(may); k.Number >= g.store.AuthNumber() || n == carriesMax {
			return err
		}
	}
}

// Permissions that do not concern single keys.
var (
	needUser  need = (*auth.State).Known
	needAdmin need = (*auth.State).Admin
)
