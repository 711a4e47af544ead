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
	authDuration  = flag.Duration("auth-duration", 6*time.Second, "start no more of them after this; 0: no limit")
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
	runAuth(t, pair)
}

func runAuth(t *testing.T, pair *Pair) {
	t.Helper()
	seed := runSeed()
	t.Logf("seed %d", seed)
	done, begin := 0, time.Now()
	for n := range *authSequences {
		if *authDuration > 0 && time.Since(begin) > *authDuration {
			break
		}
		ops, d, err := NewAuthPair(pair, seed+uint64(n)).Sequence(authOps)
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
