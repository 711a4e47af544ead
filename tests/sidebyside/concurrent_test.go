package sidebyside

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// concurrentTries is how often a run is tried until no request of it times out.
const concurrentTries = 5

// timedOut says whether a server has answered that a request took it too long.
func (run *concurrentRun) timedOut() bool {
	return slices.ContainsFunc(run.answers, func(answers []string) bool {
		return slices.ContainsFunc(answers, func(a string) bool { return strings.Contains(a, "request timed out") })
	})
}

// TestConcurrent compares what several concurrent clients see and leave behind.
func TestConcurrent(t *testing.T) { compareConcurrent(t, sut(t), *rounds) }

func compareConcurrent(t *testing.T, under starter, rounds int) {
	t.Helper()
	const clients, steps = 8, 120
	pair, err := NewPair(under)
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	first := runSeed()
	for round := range uint64(rounds) {
		t.Logf("seed %d", first+round)
		var runs [2]*concurrentRun
		for i, target := range []*Target{pair.Ref, pair.SUT} {
			// A machine that stops for seconds has requests time out, on which no server has a say: try again.
			for try := 1; ; try++ {
				if runs[i], err = runConcurrently(target, first+round, clients, steps); err != nil {
					t.Fatal(err)
				}
				for _, p := range runs[i].problems {
					t.Errorf("%s: %s", target.name, p)
				}
				removeAll(t, target)
				if !runs[i].timedOut() || try == concurrentTries {
					break
				}
				t.Logf("%s: a request timed out, try %d", target.name, try)
			}
		}
		if diff := cmp.Diff(runs[0].answers, runs[1].answers); diff != "" {
			t.Errorf("answers differ (-etcd +headwater):\n%s", diff)
		}
		if diff := cmp.Diff(runs[0].events, runs[1].events); diff != "" {
			t.Errorf("events per key differ (-etcd +headwater):\n%s", diff)
		}
		if runs[0].counter != runs[1].counter {
			t.Errorf("counter: etcd %d, headwater %d", runs[0].counter, runs[1].counter)
		}
		if t.Failed() {
			return
		}
	}
}

// removeAll removes all keys and leases.
func removeAll(t *testing.T, target *Target) {
	t.Helper()
	ctx := context.Background()
	if _, err := target.clients.kv.DeleteRange(ctx,
		&pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}); err != nil {
		t.Fatal(err)
	}
	leases, err := target.clients.lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.GetLeases() {
		if _, err := target.clients.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: l.GetID()}); err != nil {
			t.Fatal(err)
		}
	}
}
