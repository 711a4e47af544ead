package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// keyFiles writes a private key and its public key.
func keyFiles(t *testing.T, private, public any) (priv, pub string) {
	t.Helper()
	a, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	priv, pub = filepath.Join(dir, "priv"), filepath.Join(dir, "pub")
	for name, block := range map[string]*pem.Block{
		priv: {Type: "PRIVATE KEY", Bytes: a}, pub: {Type: "PUBLIC KEY", Bytes: b},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return priv, pub
}

// TestJWT: tokens of each method are good with the public key alone, until they expire; those of another key, another
// method, or without what they must say are not.
func TestJWT(t *testing.T) {
	w := newWorld(t)
	w.enable()
	now := time.Unix(1_700_000_000, 0)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPub, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaPriv, rsaPub := keyFiles(t, rsaKey, &rsaKey.PublicKey)
	ecPriv, ecPub := keyFiles(t, ecKey, &ecKey.PublicKey)
	edPriv, edPublic := keyFiles(t, edKey, edPub)
	files := map[string][2]string{
		"RS256": {rsaPriv, rsaPub}, "PS384": {rsaPriv, rsaPub}, "ES256": {ecPriv, ecPub}, "EdDSA": {edPriv, edPublic},
	}
	for method, f := range files {
		signer, err := ParseTokens("jwt,ttl=1m,sign-method=" + method + ",priv-key=" + f[0] + ",pub-key=" + f[1])
		if err != nil {
			t.Fatal(method, err)
		}
		verifier, err := ParseTokens("jwt,sign-method=" + method + ",pub-key=" + f[1])
		if err != nil {
			t.Fatal(method, err)
		}
		token, err := signer.Sign(7, w.State, Root, now)
		if err != nil {
			t.Fatal(method, err)
		}
		if id, err := verifier.Parse(7, token, now); err != nil || id.User != Root || id.Revision != w.Revision() {
			t.Error(method, id, err)
		}
		if _, err := verifier.Parse(7, token, now.Add(time.Minute)); !errors.Is(err, ErrInvalidAuthToken) {
			t.Error(method, "expired:", err)
		}
		if id, err := verifier.Parse(8, token, now); !errors.Is(err, ErrInvalidAuthToken) {
			t.Error(method, "in another keyspace:", id, err)
		}
		if _, err := verifier.Sign(7, w.State, Root, now); !errors.Is(err, ErrVerifyOnly) {
			t.Error(method, err)
		}
		for other := range files {
			if other == method {
				continue
			}
			o, err := ParseTokens("jwt,sign-method=" + other + ",pub-key=" + files[other][1])
			if err != nil {
				t.Fatal(err)
			}
			if id, err := o.Parse(7, token, now); err == nil {
				t.Error(method, "taken as", other, id)
			}
		}
	}
	rs, err := ParseTokens("jwt,sign-method=RS256,pub-key=" + rsaPub)
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(rsaPub)
	if err != nil {
		t.Fatal(err)
	}
	good := jwt.MapClaims{"username": "root", "revision": 3, "exp": now.Add(time.Hour).Unix()}
	foreign, err := jwt.NewWithClaims(jwt.SigningMethodRS256, good).SignedString(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := rs.Parse(7, foreign, now); err != nil || id.User != Root || id.Revision != 3 {
		t.Error("one of etcd's:", id, err)
	}
	forged := map[string]func() (string, error){
		"a keyspace that is a number": func() (string, error) {
			return jwt.NewWithClaims(jwt.SigningMethodRS256,
				jwt.MapClaims{"username": "root", "revision": 3, keyspaceClaim: 7}).SignedString(rsaKey)
		},
		"the public key as a secret": func() (string, error) { return jwt.NewWithClaims(jwt.SigningMethodHS256, good).SignedString(public) },
		"no method": func() (string, error) {
			return jwt.NewWithClaims(jwt.SigningMethodNone, good).SignedString(jwt.UnsafeAllowNoneSignatureType)
		},
		"no user": func() (string, error) {
			return jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"revision": 3}).SignedString(rsaKey)
		},
		"revision 0": func() (string, error) {
			return jwt.NewWithClaims(jwt.SigningMethodRS256,
				jwt.MapClaims{"username": "root", "revision": 0}).SignedString(rsaKey)
		},
		"no revision": func() (string, error) {
			return jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"username": "root"}).SignedString(rsaKey)
		},
		"a user that is a number": func() (string, error) {
			return jwt.NewWithClaims(jwt.SigningMethodRS256,
				jwt.MapClaims{"username": 1, "revision": 3}).SignedString(rsaKey)
		},
	}
	for name, forge := range forged {
		token, err := forge()
		if err != nil {
			t.Fatal(name, err)
		}
		if id, err := rs.Parse(7, token, now); !errors.Is(err, ErrInvalidAuthToken) {
			t.Error(name, id, err)
		}
	}
	for option, want := range map[string]error{
		"jwt,sign-method=RS256,priv-key=" + rsaPriv + ",pub-key=" + ecPub: jwt.ErrNotRSAPublicKey,
		"jwt,sign-method=RS256":                   ErrMissingKey,
		"jwt,sign-method=HS256":                   ErrMissingKey,
		"jwt,sign-method=none":                    ErrInvalidAuthMethod,
		"jwt,pub-key=" + rsaPub:                   ErrInvalidAuthOpts,
		"jwt,sign-method=RS256,pub-key=/nowhere":  ErrInvalidAuthOpts,
		"jwt,ttl=x,sign-method=RS256":             ErrInvalidAuthOpts,
		"jwt,sign-method=RS256,sign-method=RS256": ErrInvalidAuthOpts,
		"jwt,sign-method":                         ErrInvalidAuthOpts,
		"other":                                   ErrInvalidAuthOpts,
		"simple":                                  nil,
		"":                                        nil,
	} {
		if got, err := ParseTokens(option); !errors.Is(err, want) || want == nil && got != nil {
			t.Errorf("%s: %v", option, err)
		}
	}
	second, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, otherPub := keyFiles(t, second, &second.PublicKey)
	if _, err := ParseTokens("jwt,sign-method=RS256,priv-key=" + rsaPriv +
		",pub-key=" + otherPub); !errors.Is(err, ErrKeyMismatch) {
		t.Error(err)
	}
}
