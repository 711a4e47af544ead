package mvcc_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// largeLease is a lease whose keys do not fit in one transaction.
type largeLease struct {
	name       string
	features   mvcc.Features // without FeatureLeaseSteps
	keys       int
	key, value int // lengths
}

var largeLeases = []largeLease{
	{"values with copies", mvcc.FeatureSizes, 120, 12, 95_000},
	{"many keys", mvcc.FeatureValues | mvcc.FeatureSizes, 12_000, 300, 10},
	{"more keys than any transaction holds", mvcc.FeatureValues | mvcc.FeatureSizes, 80_000, 6, 0},
}

func (l *largeLease) nth(i int) []byte {
	return fmt.Appendf(nil, "%0*d", l.key, i)
}

// grant grants the lease and puts its keys on it.
func (l *largeLease) grant(t *testing.T, s *mvcc.Store, id int64) {
	t.Helper()
	if _, err := s.LeaseGrant(t.Context(), id, 60, nil); err != nil {
		t.Fatal(err)
	}
	together := min(128, 1_000_000/max(l.value, 1))
	value := bytes.Repeat([]byte{'v'}, l.value)
	for i := 0; i < l.keys; i += together {
		var txn mvcc.TxnRequest
		for j := i; j < min(i+together, l.keys); j++ {
			txn.Success = append(txn.Success, mvcc.Op{Put: &mvcc.PutRequest{Key: l.nth(j), Value: value, Lease: id}})
		}
		if _, err := s.Txn(t.Context(), &txn); err != nil {
			t.Fatal(err)
		}
	}
}

// leasesOf returns what Leases shows.
func leasesOf(t *testing.T, s *mvcc.Store) map[int64]int64 {
	t.Helper()
	all := map[int64]int64{}
	err := s.Leases(t.Context(), func(id, ttl int64) error { all[id] = ttl; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestLeaseSteps: a lease whose keys do not fit in a transaction ends in steps, which another process may go on with;
// from the first on there is no such lease, and keys that leave it meanwhile stay.
func TestLeaseSteps(t *testing.T) {
	for _, l := range largeLeases {
		t.Run(l.name, func(t *testing.T) {
			if testing.Short() && l.name != "values with copies" {
				t.Skip("many keys: the race detector sees as much with the fewest")
			}
			t.Parallel()
			const id, other = 7, 8
			ctx := t.Context()
			e := openEngine(t, fdb)
			s := open(t, e, mvcc.Options{Features: l.features, NoRemoval: true})
			l.grant(t, s, id)
			if _, err := s.LeaseGrant(ctx, other, 60, nil); err != nil {
				t.Fatal(err)
			}
			putOn := func(s *mvcc.Store, i int, r mvcc.PutRequest) {
				t.Helper()
				r.Key = l.nth(i)
				if _, err := s.Put(ctx, &r); err != nil {
					t.Fatal(err)
				}
			}
			old, err := s.ClaimLeases(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}

			// Before the feature is there nothing happens, and the error says what is missing.
			_, err = s.LeaseRevoke(ctx, id, &old)
			if !errors.Is(err, mvcc.ErrTooLarge) || !strings.Contains(err.Error(), "lease-steps") {
				t.Fatalf("without the feature: %v", err)
			}
			if _, _, err := s.LeaseRevokeStep(ctx, id, &old); !errors.Is(err, mvcc.ErrLeaseNotFound) {
				t.Errorf("a step of a lease that is good: %v", err)
			}
			putOn(s, 0, mvcc.PutRequest{Lease: id})
			if err := s.Activate(ctx, mvcc.FeatureLeaseSteps); err != nil {
				t.Fatal(err)
			}

			before, err := s.Head(ctx)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.LeaseRevoke(ctx, id, &old)
			for n := 0; n < 10 && openCluster != nil && errors.Is(err, mvcc.ErrUnavailable); n++ {
				_, err = s.LeaseRevoke(ctx, id, &old) // a busy cluster took longer than a client waits
			}
			if !errors.Is(err, mvcc.ErrLeaseEnding) {
				t.Fatalf("revoke: %v", err)
			}
			if head, err := s.Head(ctx); err != nil || head != before {
				t.Errorf("the end's beginning made revision %d after %d (%v)", head, before, err)
			}
			ended := func(s *mvcc.Store) {
				t.Helper()
				if _, err := s.LeaseGrant(ctx, id, 60, nil); !errors.Is(err, mvcc.ErrLeaseExists) {
					t.Errorf("a grant of a lease that is ending: %v", err)
				}
				_, err = s.Put(ctx, &mvcc.PutRequest{Key: []byte("x"), Lease: id})
				if !errors.Is(err, mvcc.ErrLeaseNotFound) {
					t.Errorf("a put on a lease that is ending: %v", err)
				}
				if _, err := s.LeaseRevoke(ctx, id, nil); !errors.Is(err, mvcc.ErrLeaseEnding) {
					t.Errorf("another revoke: %v", err)
				}
				if diff := cmp.Diff(map[int64]int64{id: mvcc.LeaseEnding, other: 60}, leasesOf(t, s)); diff != "" {
					t.Errorf("leases (-want +got):\n%s", diff)
				}
			}
			ended(s)
			first, done, err := s.LeaseRevokeStep(ctx, id, &old)
			if err != nil || done || first <= before {
				t.Fatalf("the first step: revision %d after %d, done %v, %v", first, before, done, err)
			}
			if n := len(everything(t, s)); n >= l.keys || n == 0 {
				t.Errorf("%d of %d keys after the first step", n, l.keys)
			}
			check(t, e, s, nil, false)

			// Its owner is no more. What was on the lease may still be changed, and leave it.
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, e, mvcc.Options{NoRemoval: true})
			ended(s)
			fence, err := s.ClaimLeases(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.LeaseRevokeStep(ctx, id, &old); !errors.Is(err, mvcc.ErrFenced) {
				t.Errorf("a step of the owner before: %v", err)
			}
			putOn(s, l.keys-1, mvcc.PutRequest{Lease: other})
			putOn(s, l.keys-2, mvcc.PutRequest{})
			putOn(s, l.keys-3, mvcc.PutRequest{Value: []byte("again"), IgnoreLease: true})
			steps, last := 1, first
			for ; !done; steps++ {
				var rev int64
				if rev, done, err = s.LeaseRevokeStep(ctx, id, &fence); err != nil {
					t.Fatal(err)
				}
				if rev < last || !done && rev == last {
					t.Errorf("a step made revision %d after %d", rev, last)
				}
				last = rev
			}
			t.Logf("%d steps", steps)
			if head, err := s.Head(ctx); err != nil || head != last {
				t.Errorf("the last step answered %d, the head is %d (%v)", last, head, err)
			}
			var left []string
			for _, kv := range everything(t, s) {
				left = append(left, string(kv.Key))
			}
			if want := []string{string(l.nth(l.keys - 2)), string(l.nth(l.keys - 1))}; !slices.Equal(left, want) {
				t.Errorf("%d keys are left", len(left))
			}
			if diff := cmp.Diff(map[int64]int64{other: 60}, leasesOf(t, s)); diff != "" {
				t.Errorf("leases (-want +got):\n%s", diff)
			}
			if _, _, err := s.LeaseRevokeStep(ctx, id, &fence); !errors.Is(err, mvcc.ErrLeaseNotFound) {
				t.Errorf("a step after the last: %v", err)
			}
			if _, err := s.LeaseGrant(ctx, id, 60, nil); err != nil {
				t.Errorf("a grant after the end: %v", err)
			}
			check(t, e, s, nil, false)
		})
	}
}

// TestLeaseStepsEmbedded: an engine without bounds ends every lease in one revision, as etcd does.
func TestLeaseStepsEmbedded(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	s := open(t, e, mvcc.Options{})
	l := largeLeases[0]
	l.grant(t, s, 7)
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rev, err := s.LeaseRevoke(t.Context(), 7, nil); err != nil || rev != head+1 || len(everything(t, s)) != 0 {
		t.Errorf("revision %d after %d: %v", rev, head, err)
	}
}

// TestLeaseStepsAgainstModel: while leases end step by step, in two processes, with puts, deletes and revokes between,
// exactly those keys go that were on the lease when their step came, and the rows agree with one another.
func TestLeaseStepsAgainstModel(t *testing.T) {
	if testing.Short() {
		t.Skip("one client at a time, and much data: there is nothing here for the race detector")
	}
	r := rand.New(rand.NewPCG(seed(t), 1))
	e := openEngine(t, fdb)
	o := mvcc.Options{Features: mvcc.FeatureSizes | mvcc.FeatureLeaseSteps, NoRemoval: true}
	stores := []*mvcc.Store{open(t, e, o), open(t, e, o)}
	const leases, keys = 2, 320
	ended := 0 // in steps
	value := bytes.Repeat([]byte{'v'}, 90_000)
	on := map[string]int64{} // the lease of each key
	state := map[int64]string{}
	ctx := t.Context()
	for n := 0; ended < 2; n++ {
		if n == 20_000 {
			t.Fatal("no lease ends in steps")
		}
		s := stores[r.IntN(len(stores))]
		id := int64(1 + r.IntN(leases))
		key := fmt.Sprintf("k%03d", r.IntN(keys))
		switch n := r.IntN(100); {
		case n < 85:
			lease := id
			if r.IntN(10) == 0 {
				lease = 0
			}
			_, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte(key), Value: value, Lease: lease})
			if want := lease == 0 || state[lease] == "good"; (err == nil) != want ||
				err != nil && !errors.Is(err, mvcc.ErrLeaseNotFound) {
				t.Fatalf("put on lease %d, which is %q: %v", lease, state[lease], err)
			}
			if err == nil {
				on[key] = lease
			}
		case n < 88:
			if _, err := s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: []byte(key)}); err != nil {
				t.Fatal(err)
			}
			delete(on, key)
		case n < 94:
			_, err := s.LeaseGrant(ctx, id, 60, nil)
			if (err == nil) != (state[id] == "") || err != nil && !errors.Is(err, mvcc.ErrLeaseExists) {
				t.Fatalf("grant of lease %d, which is %q: %v", id, state[id], err)
			}
			if err == nil {
				state[id] = "good"
			}
		case n < 96:
			attached := 0
			for _, l := range on {
				if l == id {
					attached++
				}
			}
			if attached < 115 && r.IntN(30) > 0 {
				continue // few of them are to be small
			}
			_, err := s.LeaseRevoke(ctx, id, nil)
			switch {
			case state[id] == "" && errors.Is(err, mvcc.ErrLeaseNotFound):
			case state[id] != "" && errors.Is(err, mvcc.ErrLeaseEnding):
				state[id] = "ending"
			case state[id] == "good" && err == nil:
				state[id] = ""
				for k, l := range on {
					if l == id {
						delete(on, k)
					}
				}
			default:
				t.Fatalf("revoke of lease %d, which is %q: %v", id, state[id], err)
			}
		default:
			_, done, err := s.LeaseRevokeStep(ctx, id, nil)
			if (err == nil) != (state[id] == "ending") || err != nil && !errors.Is(err, mvcc.ErrLeaseNotFound) {
				t.Fatalf("a step of lease %d, which is %q: %v", id, state[id], err)
			}
			if err != nil {
				continue
			}
			there := map[string]bool{}
			for _, kv := range everything(t, s) {
				there[string(kv.Key)] = true
			}
			for k, l := range on {
				if !there[k] && l == id {
					delete(on, k)
				}
			}
			if done {
				ended++
				state[id] = ""
			}
		}
	}
	got := map[string]int64{}
	for _, kv := range everything(t, stores[0]) {
		got[string(kv.Key)] = kv.Lease
	}
	if diff := cmp.Diff(on, got); diff != "" {
		t.Errorf("keys and their leases (-want +got):\n%s", diff)
	}
	for k, l := range got {
		if l != 0 && state[l] == "" {
			t.Errorf("%s is on lease %d, which has ended", k, l)
		}
	}
	check(t, e, stores[0], nil, false)
}
