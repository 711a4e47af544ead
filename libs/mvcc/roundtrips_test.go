package mvcc_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// trip is how long a round trip takes on the clock of a bubble.
const trip = time.Millisecond

// far is a Store on an engine over a network, in a bubble. Nothing but the test asks the engine for anything.
type far struct {
	*testing.T
	*mvcc.Store
	e     *faults.Store
	fence mvcc.Fence
	n     int
}

// openFar opens an engine over a network.
func openFar(t *testing.T, seed uint64, l faults.Latency) *faults.Store {
	t.Helper()
	o := fdb
	o.FS, o.ReserveBytes, o.BallastBytes, o.Seed, o.CloseWithin = vfs.NewMem(), -1, -1, seed, time.Minute
	inner, err := pebble.Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	e := faults.New(inner, faults.Options{Seed: seed, Remote: &faults.Remote{Latency: l}})
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func newFar(t *testing.T, l faults.Latency) *far {
	t.Helper()
	e := openFar(t, 1, l)
	s := open(t, e, mvcc.Options{NoRemoval: true})
	f := &far{T: t, Store: s, e: e}
	var err error
	f.fence, err = s.ClaimLeases(t.Context(), 0)
	f.must(err)
	return f
}

func (f *far) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// cost is what one operation cost: round trips of all kinds, and how many of them had to wait for one another.
type cost struct {
	trips  faults.Trips
	serial int64
}

// measure does one operation where nothing is known of the newest state, which a write of somebody else has made.
func (f *far) measure(do func(f *far)) cost {
	f.Helper()
	put(f, f.Store, "somebody else's", fmt.Sprint(f.n))
	f.n++
	synctest.Wait()
	before, begun := f.e.Trips(), time.Now()
	do(f)
	took := time.Since(begun)
	synctest.Wait()
	return cost{f.e.Trips().Since(before), int64((took + trip - 1) / trip)}
}

const (
	small = 100 // bytes of a value that is in the key's record
	large = 600 // of one that is not
)

func key(prefix string, i int) []byte {
	return fmt.Appendf(nil, "/registry/%s/default/object-%05d", prefix, i)
}

// all is the range of the keys with a prefix.
func all(prefix string) (begin, end []byte) {
	return []byte("/registry/" + prefix + "/"), []byte("/registry/" + prefix + "0")
}

// fill puts n keys, many in a transaction.
func (f *far) fill(prefix string, n, size int, lease int64) {
	f.Helper()
	const together = 500
	for i := 0; i < n; i += together {
		t := &mvcc.TxnRequest{}
		for j := i; j < min(i+together, n); j++ {
			p := &mvcc.PutRequest{Key: key(prefix, j), Value: bytes.Repeat([]byte{'v'}, size), Lease: lease}
			t.Success = append(t.Success, mvcc.Op{Put: p})
		}
		f.txn(t)
	}
}

func (f *far) txn(t *mvcc.TxnRequest) *mvcc.Result {
	f.Helper()
	res, err := f.Txn(context.Background(), t)
	f.must(err)
	return res
}

func (f *far) put(p mvcc.PutRequest) {
	f.Helper()
	_, err := f.Put(context.Background(), &p)
	f.must(err)
}

func (f *far) del(n int64, d mvcc.DeleteRequest) {
	f.Helper()
	res, err := f.DeleteRange(context.Background(), &d)
	f.must(err)
	if res.Deleted != n {
		f.Fatalf("%d deleted, want %d", res.Deleted, n)
	}
}

func (f *far) grant(id int64) {
	f.Helper()
	_, err := f.LeaseGrant(context.Background(), id, 10, &f.fence)
	f.must(err)
}

func (f *far) revoke(id int64) {
	f.Helper()
	_, err := f.LeaseRevoke(context.Background(), id, &f.fence)
	f.must(err)
}

// list asks for a range and wants n keys of it.
func (f *far) list(n int, r mvcc.RangeRequest) []mvcc.KV {
	f.Helper()
	kvs, _ := collect(f, f.Store, &r)
	if len(kvs) != n {
		f.Fatalf("%d keys, want %d", len(kvs), n)
	}
	return kvs
}

// keepBuckets brings the buckets of the count index to their sizes.
func (f *far) keepBuckets() {
	f.Helper()
	for more := true; more; {
		var err error
		more, err = f.StepBuckets(context.Background())
		f.must(err)
	}
}

func (f *far) head() int64 {
	f.Helper()
	rev, err := f.Head(context.Background())
	f.must(err)
	return rev
}

// many makes n operations.
func many(n int, op func(i int) mvcc.Op) (ops []mvcc.Op) {
	for i := range n {
		ops = append(ops, op(i))
	}
	return ops
}

func getOp(k []byte) mvcc.Op { return mvcc.Op{Range: &mvcc.RangeRequest{Key: k}} }
func putOp(k []byte, n int) mvcc.Op {
	return mvcc.Op{Put: &mvcc.PutRequest{Key: k, Value: make([]byte, n)}}
}

// modIs is the compare of Kubernetes' writes.
func modIs(k []byte, rev int64) mvcc.Compare {
	return mvcc.Compare{Key: k, Target: mvcc.CompareMod, Result: mvcc.Equal, Int: rev}
}

func valueIs(k []byte, n int) mvcc.Compare {
	return mvcc.Compare{Key: k, Target: mvcc.CompareValue, Result: mvcc.Equal, Value: bytes.Repeat([]byte{'v'}, n)}
}

// budget is the most that an operation may cost.
type budget struct {
	name          string
	trips, serial int64
	prepare, do   func(f *far)
}

// TestRoundTrips: no operation costs more round trips than its budget, which does not grow with the keys that it is
// about but for the pages that their rows fill, and docs/round-trips.md says so.
func TestRoundTrips(t *testing.T) {
	if testing.Short() {
		t.Skip("one client at a time: there is nothing here for the race detector")
	}
	doc, err := os.ReadFile("../../docs/round-trips.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range budgets() {
		t.Run(b.name, func(t *testing.T) {
			row := fmt.Sprintf("| %s | %d | %d |", b.name, b.trips, b.serial)
			if !strings.Contains(string(doc), row) {
				t.Errorf("docs/round-trips.md lacks: %s", row)
			}
			synctest.Test(t, func(t *testing.T) {
				f := newFar(t, faults.Everywhere(faults.Delay{Fixed: trip}))
				if b.prepare != nil {
					b.prepare(f)
				}
				c := f.measure(b.do)
				t.Logf("%s: %v: %d, one after the other %d", b.name, c.trips, c.trips.Total(), c.serial)
				if c.trips.Total() > b.trips || c.serial > b.serial {
					t.Errorf("more than its budget of %d and %d", b.trips, b.serial)
				}
			})
		})
	}
}
