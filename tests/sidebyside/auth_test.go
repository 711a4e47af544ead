package sidebyside

import (
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/refetcd"
)

var (
	authSequences = flag.Int("auth-sequences", 60, "random sequences with users and roles")
	authDuration  = flag.Duration("auth-duration", 2*time.Second, "start no more of them after this; 0: no limit")
)

// authOps is the length of a sequence with users and roles.
const authOps = 80

// TestAuth compares random sequences with users and roles, and requests on their behalf, with etcd's answers. It uses
// tokens of both kinds.
func TestAuth(t *testing.T) {
	t.Run("simple", func(t *testing.T) { authAlone(t, "simple") })
	t.Run("jwt", func(t *testing.T) {
		key := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(key, []byte("a secret of the test"), 0o600); err != nil {
			t.Fatal(err)
		}
		authAlone(t, "jwt,sign-method=HS256,ttl=1h,priv-key="+key)
	})
}

func authAlone(t *testing.T, tokens string) {
	t.Helper()
	program := hw.Headwater(t)
	pair, err := NewPair(func() (*Target, error) {
		s := hw.New(t, program, t.TempDir(), "--bcrypt-cost=4", "--auth-token="+tokens)
		if err := s.Start(); err != nil {
			return nil, err
		}
		return newTarget("headwater", process{s}, nil, nil)
	}, func(c *embed.Config) { c.AuthToken = tokens })
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	runAuth(t, pair, false)
}

// TestAuthPods does the same with pods. Each request goes to the next pod, so all pods must obey what one has changed,
// and a relayed request must still count as its client's.
func TestAuthPods(t *testing.T) {
	pair, err := NewPair(func() (*Target, error) {
		o, err := ownStore(t)
		if err != nil {
			return nil, err
		}
		s, err := newPodsServer(t, o)
		if err != nil {
			return nil, err
		}
		target, err := newTarget("headwater", s, nil, s.dialOptions())
		if target != nil {
			target.ranked = true
		}
		return target, err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	runAuth(t, pair, true)
}

// TestAuthGateway does the same with requests in JSON, through the gateway of either side.
func TestAuthGateway(t *testing.T) {
	theirs, err := refetcd.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Remove()
	ref, err := newTarget("etcd", theirs, nil, gatewayDial())
	if err != nil {
		t.Fatal(err)
	}
	s := hw.New(t, hw.Headwater(t), t.TempDir(), "--bcrypt-cost=4")
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	sut, err := newTarget("headwater", process{s}, nil, gatewayDial())
	if err != nil {
		t.Fatal(err)
	}
	pair := &Pair{Ref: ref, SUT: sut, compacted: -1}
	defer pair.Close()
	defer http.DefaultClient.CloseIdleConnections()
	runAuth(t, pair, false)
}

func runAuth(t *testing.T, pair *Pair, sparse bool) {
	t.Helper()
	seed := runSeed()
	t.Logf("seed %d", seed)
	done, begin := 0, time.Now()
	for n := range *authSequences {
		if *authDuration > 0 && time.Since(begin) > *authDuration {
			break
		}
		a := NewAuthPair(pair, seed+uint64(n))
		a.Sparse = sparse
		ops, d, err := a.Sequence(authOps)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed+uint64(n), err, strings.Join(ops, "\n"))
		}
		if d != nil {
			t.Fatalf("seed %d: %s\n%s", seed+uint64(n), d, strings.Join(ops, "\n"))
		}
		done++
	}
	t.Logf("%d sequences were checked", done)
}
