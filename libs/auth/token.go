package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"
)

// A secret signs simple tokens. Its row has the number in its key. The value is when it was made (8, Unix seconds), and
// the secret itself.
type secret struct {
	number uint64
	made   int64
	key    []byte
}

const (
	secretBytes = 32
	// TokenLifeMin is the shortest lifetime of a simple token. The token is not stored, so using it cannot extend its
	// life, as it does in etcd.
	TokenLifeMin = 24 * time.Hour
)

func secretKey(number uint64) []byte { return binary.BigEndian.AppendUint64([]byte{rowSecret}, number) }

// IsSecret says whether the row of a key has a secret that signs tokens.
func IsSecret(key []byte) bool { return len(key) > 0 && key[0] == rowSecret }

func parseSecret(r Row) (secret, error) {
	if len(r.Key) != 1+8 || len(r.Value) != 8+secretBytes {
		return secret{}, ErrRow
	}
	return secret{
		number: binary.BigEndian.Uint64(r.Key[1:]), made: int64(binary.BigEndian.Uint64(r.Value)),
		key: slices.Clone(r.Value[8:]),
	}, nil
}

// Simple makes and reads signed tokens. Its fields must not be changed.
type Simple struct {
	// Keyspace identifies the keyspace. A token is valid only in its own.
	Keyspace uint64
	// TTL is the lifetime of a token. A value below TokenLifeMin counts as that.
	TTL time.Duration
}

func (t Simple) life() time.Duration { return max(t.TTL, TokenLifeMin) }

// SecretDue says whether the State needs a new secret: it has none, or the newest should not be used any more.
func (t Simple) SecretDue(s *State, now time.Time) bool {
	n := len(s.secrets)
	return n == 0 || now.Sub(time.Unix(s.secrets[n-1].made, 0)) >= t.life()
}

// RotateSecret returns the change that adds a secret if one is due, and removes those whose tokens have all expired. It
// makes no revision.
func (t Simple) RotateSecret(s *State, now time.Time) (Change, error) {
	c := s.none()
	if !t.SecretDue(s, now) {
		return c, nil
	}
	next := uint64(now.UnixNano()) // never used twice, even after all have been removed
	if n := len(s.secrets); n > 0 {
		next = max(next, s.secrets[n-1].number+1)
	}
	for _, sec := range s.secrets {
		if now.Sub(time.Unix(sec.made, 0)) >= 2*t.life() {
			c.Rows = append(c.Rows, Row{Key: secretKey(sec.number)})
		}
	}
	value := binary.BigEndian.AppendUint64(make([]byte, 0, 8+secretBytes), uint64(now.Unix()))
	value = value[:8+secretBytes]
	rand.Read(value[8:])
	c.Rows = append(c.Rows, Row{secretKey(next), value})
	return c, nil
}

// A token is the base64url of its content, a dot, and the base64url of its signature. The content is the number of the
// secret (8), the keyspace (8), the user's epoch (8), when it was made (8, Unix seconds), and the user.
const tokenHead = 4 * 8

var tokenText = base64.RawURLEncoding.Strict()

// Sign makes a token for a user. Errors: ErrAuthFailed (there is no such user or it has no password),
// ErrInvalidAuthToken (there is no secret).
func (t Simple) Sign(s *State, name string, now time.Time) (string, error) {
	u := s.users[name]
	if u == nil || u.noPassword() {
		return "", ErrAuthFailed
	}
	if len(s.secrets) == 0 {
		return "", ErrInvalidAuthToken
	}
	sec := s.secrets[len(s.secrets)-1]
	return t.token(sec, u.epoch, name, now), nil
}

// SignPeer makes a token by which processes of the deployment recognise one another. It is for no user. Errors:
// ErrInvalidAuthToken (there is no secret).
func (t Simple) SignPeer(s *State, now time.Time) (string, error) {
	if len(s.secrets) == 0 {
		return "", ErrInvalidAuthToken
	}
	return t.token(s.secrets[len(s.secrets)-1], 0, "", now), nil
}

func (t Simple) token(sec secret, epoch uint64, name string, now time.Time) string {
	b := make([]byte, 0, tokenHead+len(name))
	for _, v := range [4]uint64{sec.number, t.Keyspace, epoch, uint64(now.Unix())} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = append(b, name...)
	return tokenText.EncodeToString(b) + "." + tokenText.EncodeToString(sec.sign(b))
}

func (c secret) sign(b []byte) []byte {
	h := hmac.New(sha256.New, c.key)
	h.Write(b)
	return h.Sum(nil)
}

// Parse reads a token. newer says that it names a secret that the State does not have yet. Errors: ErrInvalidAuthToken.
func (t Simple) Parse(s *State, token string, now time.Time) (id Identity, newer bool, err error) {
	body, mac, _ := strings.Cut(token, ".")
	b, err := tokenText.DecodeString(body)
	if err != nil || len(b) < tokenHead {
		return Identity{}, false, ErrInvalidAuthToken
	}
	sum, err := tokenText.DecodeString(mac)
	if err != nil {
		return Identity{}, false, ErrInvalidAuthToken
	}
	number := binary.BigEndian.Uint64(b)
	i := slices.IndexFunc(s.secrets, func(c secret) bool { return c.number == number })
	if i < 0 {
		newer = len(s.secrets) == 0 || number > s.secrets[len(s.secrets)-1].number
		return Identity{}, newer, ErrInvalidAuthToken
	}
	if !hmac.Equal(sum, s.secrets[i].sign(b)) || binary.BigEndian.Uint64(b[8:]) != t.Keyspace {
		return Identity{}, false, ErrInvalidAuthToken
	}
	made := time.Unix(int64(binary.BigEndian.Uint64(b[24:])), 0)
	if now.Sub(made) >= t.life() {
		return Identity{}, false, ErrInvalidAuthToken
	}
	if len(b) == tokenHead {
		return Identity{Peer: true}, false, nil
	}
	id = Identity{User: string(b[tokenHead:]), Epoch: binary.BigEndian.Uint64(b[16:])}
	if u := s.users[id.User]; u == nil || u.epoch != id.Epoch {
		return Identity{}, false, ErrInvalidAuthToken
	}
	return id, false, nil
}
