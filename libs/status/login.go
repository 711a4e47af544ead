package status

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Limits of the tokens that are kept. With them a password is not checked for every page.
const (
	loginsMax = 1024
	// loginTTL is how long a token is used before the password is checked again.
	loginTTL = time.Minute
)

// tokenKey is the metadata of a call that carries its token.
const tokenKey = "token"

// errLogin: the request must name a user with the right password.
var errLogin = errors.New("a user and a password are needed")

// login is what is known about a user and password.
type login struct {
	token string
	until time.Time
}

// logins holds tokens by a digest of keyspace, user and password.
type logins struct {
	now func() time.Time

	mu  sync.Mutex
	all map[[sha256.Size]byte]login
}

// digest returns the key of a login. Its parts cannot run into one another, because the name of a keyspace has no zero
// byte.
func digest(keyspace, user, password string) [sha256.Size]byte {
	u := sha256.Sum256([]byte(user))
	return sha256.Sum256([]byte(keyspace + "\x00" + string(u[:]) + password))
}

func (l *logins) get(key [sha256.Size]byte) (token string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.all[key]
	if ok && l.now().After(known.until) {
		delete(l.all, key)
		return "", false
	}
	return known.token, ok
}

func (l *logins) put(key [sha256.Size]byte, token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil || len(l.all) >= loginsMax {
		l.all = make(map[[sha256.Size]byte]login) // the only effect is that all passwords are checked again
	}
	l.all[key] = login{token, l.now().Add(loginTTL)}
}

func (l *logins) drop(key [sha256.Size]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, key)
}

// visitor is somebody who looks into a keyspace.
type visitor struct {
	h        *Handler
	ctx      context.Context // of the request
	keyspace string
	user     string // "": no user
	token    string
	key      [sha256.Size]byte // of the login that the token is from; zero: none
}

// errNoKeyspace is the error for names that no keyspace can have and no call can carry.
var errNoKeyspace = status.Error(codes.NotFound, "headwater: keyspace not found")

// sendable says whether gRPC can send a text as metadata.
func sendable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// visitor finds out who makes a request. Errors: errLogin, those of gRPC.
func (h *Handler) visitor(r *http.Request) (*visitor, error) {
	v := &visitor{h: h, ctx: r.Context(), keyspace: r.PathValue("name")}
	if !sendable(v.keyspace) {
		return nil, errNoKeyspace
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if v.token = strings.TrimSpace(token); !sendable(v.token) {
			return nil, errLogin
		}
		return v, nil
	}
	user, password, ok := r.BasicAuth()
	switch {
	case !ok || user == "":
		return v, nil
	case !utf8.ValidString(user), !utf8.ValidString(password):
		return nil, errLogin // a message has no such text
	}
	key := digest(v.keyspace, user, password)
	v.user = user
	if token, ok := h.logins.get(key); ok {
		v.token, v.key = token, key
		return v, nil
	}
	ctx, cancel := context.WithTimeout(v.context(), requestTimeout)
	defer cancel()
	a, err := h.auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: user, Password: password})
	switch {
	case err == nil:
		v.token, v.key = a.GetToken(), key
		h.logins.put(key, v.token)
		return v, nil
	case same(err, rpctypes.ErrGRPCAuthNotEnabled):
		v.user = ""
		return v, nil
	case same(err, rpctypes.ErrGRPCAuthFailed):
		return nil, errLogin
	}
	return nil, err
}

// context returns the context of the visitor's calls.
func (v *visitor) context() context.Context {
	pairs := []string{v.h.o.KeyspaceMetadata, v.keyspace}
	if v.token != "" {
		pairs = append(pairs, tokenKey, v.token)
	}
	return metadata.NewOutgoingContext(v.ctx, metadata.Pairs(pairs...))
}

// judge returns errLogin for an error that a login may solve.
func (v *visitor) judge(err error) error {
	switch {
	case err == nil:
		return nil
	case same(err, rpctypes.ErrGRPCInvalidAuthToken), status.Code(err) == codes.Unauthenticated:
		v.h.logins.drop(v.key)
		return errLogin
	case same(err, rpctypes.ErrGRPCUserEmpty), same(err, rpctypes.ErrGRPCAuthOldRevision):
		v.h.logins.drop(v.key)
		return errLogin
	}
	return err
}

// same says whether an error is one of etcd's. They are told apart by their texts.
func same(err, want error) bool {
	return status.Convert(err).Message() == status.Convert(want).Message()
}
