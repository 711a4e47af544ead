package clients

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

func session(t *testing.T, c *clientv3.Client, ttl int) *concurrency.Session {
	t.Helper()
	s, err := concurrency.NewSession(c, concurrency.WithTTL(ttl))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestMutex: a lock never has two owners, every waiter gets its turn, and TryLock of a held lock fails.
func TestMutex(t *testing.T) {
	const workers, turns = 6, 8
	c, ctx := client(t, start(t)), timeout(t)
	var owners, done atomic.Int32
	var wg sync.WaitGroup
	for range workers {
		s := session(t, c, 30)
		wg.Go(func() {
			m := concurrency.NewMutex(s, "/lock")
			for range turns {
				if err := m.Lock(ctx); err != nil {
					t.Error(err)
					return
				}
				if owners.Add(1) != 1 {
					t.Error("two owners of one lock")
				}
				done.Add(1)
				owners.Add(-1)
				if err := m.Unlock(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if done.Load() != workers*turns {
		t.Errorf("%d of %d turns were taken", done.Load(), workers*turns)
	}
	first, second := concurrency.NewMutex(session(t, c, 30), "/try"), concurrency.NewMutex(session(t, c, 30), "/try")
	if err := first.TryLock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := second.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		t.Errorf("second TryLock: %v", err)
	}
}

// TestMutexOfDeadSession: when its owner's lease ends, the lock goes to the next waiter.
func TestMutexOfDeadSession(t *testing.T) {
	c, ctx := client(t, start(t)), timeout(t)
	dead := session(t, c, 9) // short, so that it soon notices that its lease has ended
	if err := concurrency.NewMutex(dead, "/lock").Lock(ctx); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	next := concurrency.NewMutex(session(t, c, 60), "/lock")
	go func() { got <- next.Lock(ctx) }()
	if _, err := c.Revoke(ctx, dead.Lease()); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	<-dead.Done()
}

// TestElection: there is one leader at a time, observers see all leaders in order, and the next candidate leads when
// one resigns.
func TestElection(t *testing.T) {
	const candidates = 4
	c, ctx := client(t, start(t)), timeout(t)
	observed := make(chan string, 100)
	watching, stop := context.WithCancel(ctx)
	observer := concurrency.NewElection(session(t, c, 30), "/office")
	values := observer.Observe(watching)
	var observing sync.WaitGroup
	observing.Go(func() {
		for r := range values {
			observed <- string(r.Kvs[0].Value)
		}
	})
	var leaders atomic.Int32
	var wg sync.WaitGroup
	for i := range candidates {
		s := session(t, c, 30)
		wg.Go(func() {
			e := concurrency.NewElection(s, "/office")
			if err := e.Campaign(ctx, strconv.Itoa(i)); err != nil {
				t.Error(err)
				return
			}
			if leaders.Add(1) != 1 {
				t.Error("two leaders")
			}
			if err := e.Proclaim(ctx, fmt.Sprintf("%d again", i)); err != nil {
				t.Error(err)
			}
			r, err := observer.Leader(ctx)
			if err != nil || string(r.Kvs[0].Value) != fmt.Sprintf("%d again", i) {
				t.Errorf("leader is %v, %v", r, err)
			}
			leaders.Add(-1)
			if err := e.Resign(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := observer.Leader(ctx); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		t.Errorf("leader after all resigned: %v", err)
	}
	last := concurrency.NewElection(session(t, c, 30), "/office")
	if err := last.Campaign(ctx, "last"); err != nil {
		t.Fatal(err)
	}
	for v := range observed {
		if v == "last" {
			break
		}
	}
	stop()
	observing.Wait()
}

// TestSTM: concurrent transfers keep the sum, under each isolation level that promises it.
func TestSTM(t *testing.T) {
	const accounts, workers, transfers, start0 = 5, 4, 20, 100
	levels := map[string]concurrency.Isolation{
		"serializable snapshot": concurrency.SerializableSnapshot,
		"serializable":          concurrency.Serializable,
		"repeatable":            concurrency.RepeatableReads,
	}
	c, ctx := client(t, start(t)), timeout(t)
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			key := func(i int) string { return fmt.Sprintf("/%s/%d", name, i) }
			for i := range accounts {
				if _, err := c.Put(ctx, key(i), strconv.Itoa(start0)); err != nil {
					t.Fatal(err)
				}
			}
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			var wg sync.WaitGroup
			for w := range uint64(workers) {
				rng := rand.New(rand.NewPCG(seed, w))
				wg.Go(func() {
					for range transfers {
						from, to, amount := rng.IntN(accounts), rng.IntN(accounts), rng.IntN(10)
						_, err := concurrency.NewSTM(c, func(s concurrency.STM) error {
							a, _ := strconv.Atoi(s.Get(key(from)))
							s.Put(key(from), strconv.Itoa(a-amount))
							b, _ := strconv.Atoi(s.Get(key(to)))
							s.Put(key(to), strconv.Itoa(b+amount))
							return nil
						}, concurrency.WithIsolation(level), concurrency.WithAbortContext(ctx))
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			res, err := c.Get(ctx, "/"+name+"/", clientv3.WithPrefix())
			if err != nil {
				t.Fatal(err)
			}
			sum := 0
			for _, kv := range res.Kvs {
				n, _ := strconv.Atoi(string(kv.Value))
				sum += n
			}
			if sum != accounts*start0 {
				t.Errorf("the sum is %d", sum)
			}
		})
	}
}

// TestQueues: each item is taken once; the priority queue gives the smallest first.
func TestQueues(t *testing.T) {
	const items = 40
	c := client(t, start(t))
	q := recipe.NewQueue(c, "/queue")
	var taken sync.Map
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range items / 4 {
				v, err := q.Dequeue()
				if err != nil {
					t.Error(err)
					return
				}
				if _, twice := taken.LoadOrStore(v, true); twice {
					t.Errorf("%s taken twice", v)
				}
			}
		})
	}
	for i := range items {
		if err := q.Enqueue(strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	pq := recipe.NewPriorityQueue(c, "/pq")
	for i := range uint16(20) {
		if err := pq.Enqueue(strconv.Itoa(int(i*7%20)), i*7%20); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		if v, err := pq.Dequeue(); err != nil || v != strconv.Itoa(i) {
			t.Fatalf("item %d is %s, %v", i, v, err)
		}
	}
}

// TestBarriers: waiters go on when the barrier is released, and the double barrier opens when all have entered.
func TestBarriers(t *testing.T) {
	c := client(t, start(t))
	b := recipe.NewBarrier(c, "/barrier")
	if err := b.Hold(); err != nil {
		t.Fatal(err)
	}
	if err := recipe.NewBarrier(c, "/barrier").Hold(); err == nil {
		t.Error("held twice")
	}
	passed := make(chan error, 3)
	for range 3 {
		go func() { passed <- recipe.NewBarrier(c, "/barrier").Wait() }()
	}
	if err := b.Release(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := <-passed; err != nil {
			t.Error(err)
		}
	}
	const parties = 4
	var entered atomic.Int32
	var wg sync.WaitGroup
	for range parties {
		s := session(t, c, 30)
		wg.Go(func() {
			d := recipe.NewDoubleBarrier(s, "/double", parties)
			entered.Add(1)
			if err := d.Enter(); err != nil {
				t.Error(err)
			}
			if entered.Load() != parties {
				t.Error("entered before all were there")
			}
			if err := d.Leave(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestRWMutex: readers hold the lock together, a writer holds it alone.
func TestRWMutex(t *testing.T) {
	c := client(t, start(t))
	var readers, writers atomic.Int32
	var wg sync.WaitGroup
	for i := range 6 {
		s := session(t, c, 30)
		wg.Go(func() {
			m := recipe.NewRWMutex(s, "/rw")
			for range 4 {
				if i%3 == 0 {
					if err := m.Lock(); err != nil {
						t.Error(err)
						return
					}
					if writers.Add(1) != 1 || readers.Load() != 0 {
						t.Error("a writer could enter while others were inside")
					}
					writers.Add(-1)
					if err := m.Unlock(); err != nil {
						t.Error(err)
					}
					continue
				}
				if err := m.RLock(); err != nil {
					t.Error(err)
					return
				}
				readers.Add(1)
				if writers.Load() != 0 {
					t.Error("a reader could enter while a writer was inside")
				}
				readers.Add(-1)
				if err := m.RUnlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestSessionEnds: a session without keep-alives ends with its keys, and not before its TTL.
func TestSessionEnds(t *testing.T) {
	c, ctx := client(t, start(t)), timeout(t)
	const ttl = 4
	events := c.Watch(ctx, "gone", clientv3.WithPrevKV())
	kept := session(t, c, ttl)
	if _, err := c.Put(ctx, "kept", "v", clientv3.WithLease(kept.Lease())); err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	grant, err := c.Grant(ctx, ttl)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "gone", "v", clientv3.WithLease(grant.ID)); err != nil {
		t.Fatal(err)
	}
	for r := range events {
		if ev := r.Events[0]; ev.Type == clientv3.EventTypeDelete {
			if ev.PrevKv == nil || string(ev.PrevKv.Value) != "v" {
				t.Errorf("prev_kv of the expiry is %v", ev.PrevKv)
			}
			if age := time.Since(sent); age < ttl*time.Second {
				t.Errorf("it ended %v after its grant, the TTL is %d s", age, ttl)
			}
			break
		}
	}
	if _, err := c.KeepAliveOnce(ctx, grant.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("keep-alive of an expired lease: %v", err)
	}
	if res, err := c.Get(ctx, "kept"); err != nil || res.Count != 1 {
		t.Errorf("the kept session lost its key: %v, %v", res, err)
	}
}
