//go:build foundationdb

package mvcc_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	fdbc "github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/foundationdb"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// clusterEnv names the cluster file of the tests. It is libfdb_c's own variable.
const clusterEnv = "FDB_CLUSTER_FILE"

func init() {
	if os.Getenv(clusterEnv) != "" {
		openCluster = openFoundationDB
		ignoredLeak = "github.com/apple/foundationdb/bindings/go/src/fdb.executeWithRunningNetworkThread.func1"
	}
}

// openFoundationDB opens a store on the cluster in a root of its own, which is cleared afterwards.
func openFoundationDB(t testing.TB) engine.Store {
	t.Helper()
	e, err := foundationdb.Open(foundationdb.Options{
		ClusterFile: os.Getenv(clusterEnv), Root: []byte("headwater-test/" + rand.Text() + "/"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x, err := e.Begin(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		x.ClearRange(nil, nil)
		p, err := x.Commit(context.Background())
		if err == nil {
			_, err = p.Wait(context.Background())
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return e
}

// TestFoundationDB says whether this run has a cluster.
func TestFoundationDB(t *testing.T) {
	if openCluster == nil {
		t.Skipf("SKIPPED: %s names no cluster file: nothing is tested on FoundationDB", clusterEnv)
	}
}

// killEnv is a shell command that kills the cluster's processes (-9) and starts them again.
const killEnv = "HEADWATER_FDB_KILL"

// TestClusterKilled is TestBadDays with a real cause: the cluster is killed again and again under its clients.
// Nothing is restarted on this side.
func TestClusterKilled(t *testing.T) {
	command := os.Getenv(killEnv)
	if openCluster == nil || command == "" {
		t.Skipf("SKIPPED: needs a cluster (%s) and a command that kills it (%s)", clusterEnv, killEnv)
	}
	const kills, clients = 5, 8
	seed := seed(t)
	e, l := openCluster(t), newLedger()
	var f feed
	s := openFed(t, e, mvcc.Options{Lanes: 4, Shift: 5}, &f)
	done := make(chan struct{})
	var steps, slowest atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			c := client{t: t, s: s, l: l, r: mrand.New(mrand.NewPCG(seed, uint64(c))), id: fmt.Sprint(c)}
			for {
				select {
				case <-done:
					return
				default:
				}
				start := time.Now()
				c.step(t.Context())
				steps.Add(1)
				for d := int64(time.Since(start)); ; {
					if old := slowest.Load(); d <= old || slowest.CompareAndSwap(old, d) {
						break
					}
				}
			}
		})
	}
	for range kills {
		at := steps.Load()
		waitFor(t, func() bool { return steps.Load() > at+200 })
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	at := steps.Load()
	waitFor(t, func() bool { return steps.Load() > at+200 })
	close(done)
	wg.Wait()
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return f.reached(head) })
	l.settle(t, f.all())
	var removal sync.WaitGroup
	remove, stop := context.WithCancel(t.Context())
	removal.Go(func() { s.RemoveCompacted(remove) })
	waitFor(t, func() bool { return s.CompactRevision() < 0 || removedUpTo(t, e, nil) == s.CompactRevision() })
	stop()
	removal.Wait()
	check(t, e, s, nil, false).checkReads(s, 1)
	t.Logf("%d steps, the slowest took %v; %d acknowledged, %d unknown, %d retries", steps.Load(),
		time.Duration(slowest.Load()), len(l.acked), len(l.unknown), s.Usage().Retries.Load())
}

// benchShift lets a group have all the requests that it can.
const benchShift = 10

// BenchmarkPutFoundationDB measures puts of 256 B, and what one transaction of the bare client costs, which writes as
// many rows.
func BenchmarkPutFoundationDB(b *testing.B) {
	if openCluster == nil {
		b.Skipf("SKIPPED: %s names no cluster file", clusterEnv)
	}
	b.Run("raw/clients=1", func(b *testing.B) {
		openCluster(b) // sets the client library up
		db := fdbc.MustOpenDatabase(os.Getenv(clusterEnv))
		root := "headwater-test/raw/"
		defer db.Transact(func(tr fdbc.Transaction) (any, error) {
			tr.ClearRange(fdbc.KeyRange{Begin: fdbc.Key(root), End: fdbc.Key(root + "\xff")})
			return nil, nil
		})
		measure(b, 1, func(key []byte) error {
			_, err := db.Transact(func(tr fdbc.Transaction) (any, error) {
				idx := fdbc.Key(root + "i" + string(key))
				if _, err := tr.Get(idx).Get(); err != nil {
					return nil, err
				}
				tr.Set(idx, make([]byte, 300))
				tr.SetVersionstampedKey(fdbc.Key(root+"l\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"+
					string([]byte{byte(len(root) + 1), 0, 0, 0})), make([]byte, 320))
				tr.SetVersionstampedValue(fdbc.Key(root+"h"), make([]byte, 16))
				tr.SetVersionstampedValue(fdbc.Key(root+"c"), make([]byte, 24))
				return nil, nil
			})
			return err
		})
	})
	for _, v := range []struct{ clients, lanes, group int }{
		{1, 1, 512},
		{1, 4, 512},
		{256, 4, 512},
		{4000, 4, 32},
		{4000, 4, 512},
		{4000, 8, 100},
		{4000, 8, 512},
		{4000, 16, 100},
	} {
		b.Run(fmt.Sprintf("clients=%d/lanes=%d/group=%d", v.clients, v.lanes, v.group), func(b *testing.B) {
			s := open(b, openCluster(b), mvcc.Options{Lanes: v.lanes, GroupMax: v.group, Shift: benchShift})
			value := make([]byte, 256)
			measure(b, v.clients, func(key []byte) error {
				_, err := s.Put(context.Background(), &mvcc.PutRequest{Key: key, Value: value})
				return err
			})
			u := s.Usage()
			b.ReportMetric(float64(u.Puts.Load())/float64(max(1, u.Groups.Load())), "puts/group")
			b.ReportMetric(float64(u.Conflicts.Load()), "conflicts")
		})
	}
}

// BenchmarkRangeFoundationDB reads one key, and lists 10,000 by 1,000 with counts.
func BenchmarkRangeFoundationDB(b *testing.B) {
	if openCluster == nil {
		b.Skipf("SKIPPED: %s names no cluster file", clusterEnv)
	}
	const keys, page = 10_000, 1000
	ctx, prefix := context.Background(), "/registry/pods/"
	s := open(b, openCluster(b), mvcc.Options{Lanes: 4, Shift: benchShift})
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			for i := next.Add(1); i <= keys; i = next.Add(1) {
				put(b, s, fmt.Sprintf("%s%08d", prefix, i), string(make([]byte, 256)))
			}
		})
	}
	wg.Wait()
	for _, clients := range []int{1, 4000} {
		b.Run(fmt.Sprintf("key/clients=%d", clients), func(b *testing.B) {
			measure(b, clients, func([]byte) error {
				_, err := s.Range(ctx, &mvcc.RangeRequest{Key: fmt.Appendf(nil, "%s%08d", prefix, mrand.IntN(keys)+1)},
					func(*mvcc.KV) error {
						return nil
					})
				return err
			})
		})
	}
	for _, clients := range []int{1, 4} {
		b.Run(fmt.Sprintf("list/clients=%d", clients), func(b *testing.B) {
			measure(b, clients, func([]byte) error {
				start, last, rev, seen := []byte(prefix), []byte(nil), int64(0), int64(0)
				for {
					info, err := s.Range(ctx, &mvcc.RangeRequest{
						Key: start, End: []byte("/registry/pods0"), Limit: page, Rev: rev,
					}, func(kv *mvcc.KV) error {
						last, seen = append(append(last[:0], kv.Key...), 0), seen+1
						return nil
					})
					if rev = info.Rev; err != nil || !info.More {
						if err == nil && seen != keys {
							err = fmt.Errorf("%d keys of %d", seen, keys)
						}
						return err
					}
					start = bytes.Clone(last)
				}
			})
			b.ReportMetric(float64(b.N)*keys/b.Elapsed().Seconds(), "keys/s")
		})
	}
}

// measure runs f b.N times from so many goroutines and reports the rate and the quantiles of its time.
func measure(b *testing.B, clients int, f func(key []byte) error) {
	b.Helper()
	times := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(times); i = int(next.Add(1)) - 1 {
				start := time.Now()
				if err := f(fmt.Appendf(nil, "/registry/pods/%020d", uint64(i)*0x9e3779b97f4a7c15)); err != nil {
					b.Error(err)
					return
				}
				times[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(times)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
}
