package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Kinds of tokens: the first part of --auth-token.
const (
	KindSimple = "simple"
	KindJWT    = "jwt"
)

// jwtLife is the lifetime of a JWT if the options do not set it.
const jwtLife = 5 * time.Minute

// JWT makes and reads etcd's JSON web tokens.
type JWT struct {
	method       jwt.SigningMethod
	sign, verify any // sign is nil if there is only a public key
	ttl          time.Duration
}

// ParseTokens reads --auth-token: the kind and, for jwt, the options sign-method, pub-key and priv-key (files), and
// ttl. The JWT is nil for simple. Errors: ErrInvalidAuthOpts, ErrInvalidAuthMethod, ErrMissingKey, ErrKeyMismatch,
// those of reading a key.
func ParseTokens(option string) (*JWT, error) {
	kind, rest, _ := strings.Cut(option, ",")
	options := map[string]string{}
	if rest != "" {
		for pair := range strings.SplitSeq(rest, ",") {
			name, value, ok := strings.Cut(pair, "=")
			if _, twice := options[name]; !ok || twice || strings.Contains(value, "=") {
				return nil, ErrInvalidAuthOpts
			}
			options[name] = value
		}
	}
	switch kind {
	case KindSimple, "":
		return nil, nil
	case KindJWT:
		return newJWT(options)
	}
	return nil, ErrInvalidAuthOpts
}

func newJWT(options map[string]string) (t *JWT, err error) {
	t = &JWT{ttl: jwtLife}
	if ttl := options["ttl"]; ttl != "" {
		if t.ttl, err = time.ParseDuration(ttl); err != nil {
			return nil, ErrInvalidAuthOpts
		}
	}
	private, err := readKey(options["priv-key"])
	if err != nil {
		return nil, err
	}
	public, err := readKey(options["pub-key"])
	if err != nil {
		return nil, err
	}
	if t.method = jwt.GetSigningMethod(options["sign-method"]); t.method == nil {
		return nil, ErrInvalidAuthOpts
	}
	switch t.method.(type) {
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		return t, t.keys(private, public, parsed(jwt.ParseRSAPrivateKeyFromPEM), parsed(jwt.ParseRSAPublicKeyFromPEM))
	case *jwt.SigningMethodECDSA:
		return t, t.keys(private, public, parsed(jwt.ParseECPrivateKeyFromPEM), parsed(jwt.ParseECPublicKeyFromPEM))
	case *jwt.SigningMethodEd25519:
		return t, t.keys(private, public, parsed(jwt.ParseEdPrivateKeyFromPEM), parsed(jwt.ParseEdPublicKeyFromPEM))
	case *jwt.SigningMethodHMAC:
		if len(private) == 0 {
			return nil, ErrMissingKey
		}
		t.sign, t.verify = private, private
		return t, nil
	}
	return nil, errors.Join(ErrInvalidAuthMethod, errors.New("unsupported sign-method"))
}

func readKey(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, errors.Join(ErrInvalidAuthOpts, err)
	}
	return b, nil
}

// parsed gives the functions that parse keys the same type.
func parsed[K any](parse func([]byte) (K, error)) func([]byte) (any, error) {
	return func(b []byte) (any, error) { return parse(b) }
}

func (t *JWT) keys(private, public []byte, parsePrivate, parsePublic func([]byte) (any, error)) (err error) {
	var own any
	if len(private) > 0 {
		if t.sign, err = parsePrivate(private); err != nil {
			return err
		}
		own = publicOf(t.sign)
		t.verify = own
	}
	if len(public) > 0 {
		if t.verify, err = parsePublic(public); err != nil {
			return err
		}
		if k, ok := t.verify.(interface{ Equal(crypto.PublicKey) bool }); own != nil && (!ok || !k.Equal(own)) {
			return ErrKeyMismatch
		}
	}
	if t.verify == nil {
		return ErrMissingKey
	}
	return nil
}

func publicOf(key any) crypto.PublicKey {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return &k.PublicKey
	case *ecdsa.PrivateKey:
		return &k.PublicKey
	case ed25519.PrivateKey:
		return k.Public()
	}
	return nil
}

// keyspaceClaim is the claim with the keyspace of a token, in the form of keyspaceText. etcd's tokens have no such
// claim.
const keyspaceClaim = "headwater-keyspace"

// keyspaceText writes a keyspace for a claim. A number in JSON cannot hold 64 bits.
func keyspaceText(keyspace uint64) string { return strconv.FormatUint(keyspace, 16) }

// Sign makes a token for a user. It is valid in one keyspace only. Errors: ErrAuthFailed, ErrVerifyOnly, those of
// signing.
func (t *JWT) Sign(keyspace uint64, s *State, name string, now time.Time) (string, error) {
	if u := s.users[name]; u == nil || u.noPassword() {
		return "", ErrAuthFailed
	}
	if t.sign == nil {
		return "", ErrVerifyOnly
	}
	claims := jwt.MapClaims{
		"username": name, "revision": s.Revision(), "exp": now.Add(t.ttl).Unix(), keyspaceClaim: keyspaceText(keyspace),
	}
	return jwt.NewWithClaims(t.method, claims).SignedString(t.sign)
}

// Parse reads the token of a request in a keyspace. It must have the configured method. A token without a keyspace was
// made by another owner of the private key, and is valid in all keyspaces. Errors: ErrInvalidAuthToken.
func (t *JWT) Parse(keyspace uint64, token string, now time.Time) (Identity, error) {
	claims := jwt.MapClaims{}
	parsed, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return t.verify, nil },
		jwt.WithValidMethods([]string{t.method.Alg()}), jwt.WithTimeFunc(func() time.Time { return now }))
	if err != nil || !parsed.Valid {
		return Identity{}, ErrInvalidAuthToken
	}
	if own, ok := claims[keyspaceClaim]; ok && own != keyspaceText(keyspace) {
		return Identity{}, ErrInvalidAuthToken
	}
	name, ok := claims["username"].(string)
	revision, ok2 := claims["revision"].(float64)
	if !ok || !ok2 || revision < 1 {
		return Identity{}, ErrInvalidAuthToken
	}
	return Identity{User: name, Revision: uint64(revision)}, nil
}
