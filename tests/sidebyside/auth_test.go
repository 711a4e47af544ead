package sidebyside

import (
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/tests/internal/hw"
)

var (
	authSequences = flag.Int("auth-sequences", 60, "random sequences with users and roles")
	authDuration  = flag.Duration("auth-duration", 4*time.Second, "start no more of them after this; 0: no limit")
)

// authOps is how long a sequence with users and roles is.
const authOps = 80

// TestAuth compares random sequences of users and roles, and of requests on their behalf, with etcd's answers.
func TestAuth(t *testing.T) {
	program := hw.Headwater(t)
	pair, err := NewPair(func() (*Target, error) {
		s := hw.New(t, program, t.TempDir(), "--bcrypt-cost=4")
		if err := s.Start(); err != nil {
			return nil, err
		}
		return newTarget("headwater", process{s}, nil, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	runAuth(t, pair, false)
}

// TestAuthPods does the same with pods, of which each request goes to the next: what one of them has changed all others
// go by, and what one has relayed is still its client's.
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
	t.Logf("%d sequences", done)
}
