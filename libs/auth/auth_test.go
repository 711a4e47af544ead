package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	"golang.org/x/crypto/bcrypt"
)

// apply makes a change, as the store does.
func apply(t *testing.T, rows map[string][]byte, s *State, c Change, err error) *State {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if c.Number < s.Number {
		t.Fatalf("number %d after %d", c.Number, s.Number)
	}
	for _, r := range c.Rows {
		if r.Value == nil {
			delete(rows, string(r.Key))
		} else {
			rows[string(r.Key)] = r.Value
		}
	}
	var all []Row
	for k, v := range rows {
		all = append(all, Row{[]byte(k), v})
	}
	next, err := NewState(c.Number, all)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// world is a state under change.
type world struct {
	*State
	t    *testing.T
	rows map[string][]byte
}

func newWorld(t *testing.T) *world {
	s, err := NewState(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &world{s, t, map[string][]byte{}}
}

func (w *world) do(c Change, err error) {
	w.t.Helper()
	w.State = apply(w.t, w.rows, w.State, c, err)
}

func (w *world) user(name, password string) {
	w.t.Helper()
	w.do(w.UserAdd(name, hashOf(w.t, password), nil))
}

// hashes of passwords, since each costs a millisecond.
var hashes = map[string][]byte{}

func hashOf(t *testing.T, password string) []byte {
	t.Helper()
	if hashes[password] == nil {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		hashes[password] = hash
	}
	return hashes[password]
}

func (w *world) enable() {
	w.t.Helper()
	w.user(Root, "root")
	w.do(w.UserGrantRole(Root, Root))
	w.do(w.Enable())
}

// TestIntervals compares the permissions of a user with a look at every key.
func TestIntervals(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	letters := []byte{0, 'a', 'b', 0xff}
	keys := [][]byte{}
	for _, a := range letters {
		keys = append(keys, []byte{a})
		for _, b := range letters {
			keys = append(keys, []byte{a, b}, []byte{a, b, 0})
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	pick := func() []byte { return keys[r.IntN(len(keys))] }
	end := func() []byte {
		switch r.IntN(4) {
		case 0:
			return nil
		case 1:
			return []byte{0}
		}
		return pick()
	}
	in := func(k, key, end []byte) bool {
		switch {
		case len(end) == 0:
			return bytes.Equal(k, key)
		case openEnded(end):
			return bytes.Compare(k, key) >= 0
		}
		return bytes.Compare(k, key) >= 0 && bytes.Compare(k, end) < 0
	}
	for range 2000 {
		w := newWorld(t)
		w.enable()
		w.user("u", "u")
		w.do(w.RoleAdd("a"))
		w.do(w.RoleAdd("b"))
		w.do(w.UserGrantRole("u", "a"))
		w.do(w.UserGrantRole("u", "b"))
		type grant struct {
			key, end []byte
			kind     authpb.Permission_Type
		}
		granted := map[string]grant{}
		for range r.IntN(5) {
			g := grant{pick(), end(), authpb.Permission_Type(r.IntN(3))}
			role := []string{"a", "b"}[r.IntN(2)]
			c, err := w.RoleGrantPermission(role, &authpb.Permission{PermType: g.kind, Key: g.key, RangeEnd: g.end})
			if !validPermission(g.key, g.end) {
				if !errors.Is(err, ErrInvalidAuthMgmt) {
					t.Fatal(err)
				}
				continue
			}
			if name := fmt.Sprintf("%s %q %q", role, g.key, g.end); true {
				if _, twice := granted[name]; twice {
					continue // of several permissions of one key etcd looks at the first alone
				}
				granted[name] = g
			}
			w.do(c, err)
		}
		for range 40 {
			key, end := pick(), end()
			for _, write := range []bool{false, true} {
				want, some := true, false
				for _, k := range keys {
					if !in(k, key, end) {
						continue
					}
					some = true
					if !slices.ContainsFunc(slices.Collect(mapValues(granted)), func(g grant) bool {
						wrong := authpb.Permission_READ
						if !write {
							wrong = authpb.Permission_WRITE
						}
						return g.kind != wrong && in(k, g.key, g.end)
					}) {
						want = false
					}
				}
				may := w.MayRead
				if write {
					may = w.MayWrite
				}
				got := may(Identity{User: "u"}, key, end) == nil
				// Between the keys of the test are others: what is allowed must be so for all of them.
				if some && got && !want {
					t.Fatalf("seed %d: %q to %q, write %t: allowed with %v", seed, key, end, write, granted)
				}
				if some && !got && want && len(end) == 0 {
					t.Fatalf("seed %d: %q, write %t: denied with %v", seed, key, write, granted)
				}
			}
		}
	}
}

func mapValues[K comparable, V any](m map[K]V) func(func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// TestUnion: an interval is covered by several that touch, and not by several with a gap.
func TestUnion(t *testing.T) {
	u := unionOf([]interval{
		{[]byte("c"), []byte("e")}, {[]byte("a"), []byte("c")}, {[]byte("f"), nil}, {[]byte("b"), []byte("d")},
	})
	for _, c := range []struct {
		key, end string
		want     bool
	}{
		{"a", "e", true},
		{"a", "f", false},
		{"e", "", false},
		{"d", "", true},
		{"f", "\x00", true},
		{"a", "\x00", false},
		{"f", "", true},
		{"g", "z", true},
		{"", "", false},
		{"z", "g", true},
		{"e", "b", false},
		{"a", "e\x00", false},
	} {
		if got := u.covers([]byte(c.key), []byte(c.end)); got != c.want {
			t.Errorf("%q to %q: %t", c.key, c.end, got)
		}
	}
}

// TestSimpleToken: what ends a token, and what does not.
func TestSimpleToken(t *testing.T) {
	w := newWorld(t)
	w.enable()
	w.user("u", "u")
	now := time.Unix(1_700_000_000, 0)
	tokens := Simple{Keyspace: 7}
	w.do(tokens.RotateSecret(w.State, now))
	token, err := tokens.Sign(w.State, "u", now)
	if err != nil {
		t.Fatal(err)
	}
	good := func(at time.Time) bool {
		id, _, err := tokens.Parse(w.State, token, at)
		return err == nil && id.User == "u"
	}
	// A changed role ends none, nor does a new secret.
	w.do(w.RoleAdd("r"))
	w.do(w.UserGrantRole("u", "r"))
	w.do(w.UserRevokeRole("u", "r"))
	if !good(now.Add(time.Hour)) {
		t.Fatal("a changed role ends a token")
	}
	later := now.Add(TokenLifeMin - time.Second)
	w.do(tokens.RotateSecret(w.State, now.Add(TokenLifeMin)))
	if !good(later) || good(now.Add(TokenLifeMin)) {
		t.Fatal("life of a token")
	}
	if len(w.secrets) != 2 {
		t.Fatalf("%d secrets", len(w.secrets))
	}
	w.do(tokens.RotateSecret(w.State, now.Add(3*TokenLifeMin)))
	if len(w.secrets) != 1 {
		t.Fatalf("%d secrets", len(w.secrets))
	}
	// A token of another keyspace with the same secret, and altered ones.
	token, _ = tokens.Sign(w.State, "u", later)
	if _, _, err := (Simple{Keyspace: 8}).Parse(w.State, token, later); !errors.Is(err, ErrInvalidAuthToken) {
		t.Fatal("good in another keyspace", err)
	}
	for i := range len(token) {
		for _, c := range []byte{'A', 'z', '.', token[i] ^ 1} {
			altered := token[:i] + string(c) + token[i+1:]
			if altered == token {
				continue
			}
			if id, _, err := tokens.Parse(w.State, altered, later); err == nil {
				t.Fatalf("altered at %d: %v", i, id)
			}
		}
	}
	// A new password ends tokens, the same name anew too, and so does an end of authentication.
	for name, change := range map[string]func(*world){
		"password": func(w *world) {
			w.do(w.UserChangePassword("u", func() ([]byte, error) { return []byte("hash"), nil }))
		},
		"deleted": func(w *world) { w.do(w.UserDelete("u")) },
		"anew":    func(w *world) { w.do(w.UserDelete("u")); w.user("u", "u") },
		"disabled": func(w *world) {
			w.do(w.Disable())
			w.do(w.Enable())
			w.do(tokens.RotateSecret(w.State, later))
		},
	} {
		rows := map[string][]byte{}
		for k, v := range w.rows {
			rows[k] = v
		}
		other := &world{w.State, t, rows}
		change(other)
		if _, _, err := tokens.Parse(other.State, token, later); !errors.Is(err, ErrInvalidAuthToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !good(later) {
		t.Fatal("a token ends by nothing")
	}
}

// TestPasswords: who is unknown or has no password costs as much as a wrong one; the queue is bounded.
func TestPasswords(t *testing.T) {
	w := newWorld(t)
	w.enable()
	w.do(w.UserAdd("none", nil, &authpb.UserAddOptions{NoPassword: true}))
	p := NewPasswords(bcrypt.MinCost)
	for name, want := range map[string]error{Root: ErrAuthFailed, "nobody": ErrAuthFailed, "none": ErrNoPasswordUser} {
		if err := p.Check(t.Context(), w.State, name, "wrong"); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(p.dummies) != 1 {
		t.Fatal("nothing was compared for users that do not exist")
	}
	if err := p.Check(t.Context(), w.State, Root, "root"); err != nil {
		t.Fatal(err)
	}
	for range passwordQueue {
		p.waiting <- struct{}{}
	}
	if err := p.Check(t.Context(), w.State, Root, "root"); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	if _, err := p.Hash(t.Context(), "x"); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
}

// TestPasswordsOfOthers: a keyspace whose clients guess all the time, at a high cost, neither fills another's queue nor
// keeps it from its turn.
func TestPasswordsOfOthers(t *testing.T) {
	w := newWorld(t)
	w.enable()
	hostile := NewPasswords(bcrypt.MinCost)
	own := hostile.Share()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range passwordSlots { // what is under way has taken its turn
		if err := hostile.enter(ctx, hashCostMax); err != nil {
			t.Fatal(err)
		}
	}
	var waiting sync.WaitGroup
	served := make(chan struct{}) // the neighbour has had its turn
	for range passwordQueue - passwordSlots {
		waiting.Go(func() {
			if err := hostile.enter(ctx, hashCostMax); err != nil {
				return
			}
			select {
			case <-served:
			default:
				t.Error("a turn that was the neighbour's")
			}
			hostile.leave()
		})
	}
	for hostile.gate.Waiting() < passwordQueue-passwordSlots {
		runtime.Gosched()
	}
	if err := hostile.Check(ctx, w.State, Root, "root"); !errors.Is(err, ErrBusy) {
		t.Error("one more of the same:", err)
	}
	waiting.Go(func() {
		err := own.enter(ctx, bcrypt.MinCost)
		close(served)
		if err != nil {
			t.Error("the neighbour:", err)
			return
		}
		own.leave()
	})
	for hostile.gate.Waiting() < passwordQueue-passwordSlots+1 {
		runtime.Gosched()
	}
	hostile.leave() // one place is free: it is the neighbour's, who has waited for the shortest time
	<-served
	cancel()
	waiting.Wait()
	hostile.leave()
}

// FuzzState: no row and no token makes a process fall.
func FuzzState(f *testing.F) {
	f.Add([]byte("uroot"), []byte("12345678"), "a.b")
	f.Add([]byte("s12345678"), make([]byte, 8+secretBytes),
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AA")
	f.Fuzz(func(t *testing.T, key, value []byte, token string) {
		s, err := NewState(5, []Row{{key, value}})
		if err != nil {
			s, _ = NewState(5, nil)
		}
		if _, _, err := (Simple{}).Parse(s, token, time.Unix(0, 0)); err == nil {
			t.Fatal("good")
		}
		_ = s.MayRead(Identity{User: "root"}, key, value)
		_, _ = s.RoleDelete("root")
	})
}

// TestHashCost: a hash that a client brings is taken only if it is no long work to compare with it.
func TestHashCost(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("p"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	p := NewPasswords(bcrypt.MinCost)
	for cost, want := range map[string]error{"04": nil, "14": nil, "15": ErrHashCost, "31": ErrHashCost} {
		given := append(append([]byte("$2a$"), cost...), hash[len("$2a$04"):]...)
		got, err := p.Hashed(base64.StdEncoding.EncodeToString(given))
		if !errors.Is(err, want) || err == nil && !bytes.Equal(got, given) {
			t.Errorf("cost %s: %q, %v", cost, got, err)
		}
	}
	own := base64.StdEncoding.EncodeToString(append([]byte("$2a$16"), hash[len("$2a$04"):]...))
	if _, err := NewPasswords(16).Hashed(own); err != nil {
		t.Error("as much as the process's own:", err)
	}
	if _, err := p.Hashed("%"); !errors.Is(err, ErrNoPasswordUser) {
		t.Error(err)
	}
}
