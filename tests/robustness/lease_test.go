package robustness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/tests/internal/hw"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	leaseCount  = 16
	leaseTTLMin = 2 // seconds; etcd grants no less
	leaseTTLMax = 4
	// leaseSlack is how late an expiry may be seen, with everything on one busy machine. Etcd's own loop takes 0.5 s.
	leaseSlack = 30 * time.Second

	leaseTry      = 500 * time.Millisecond // one request
	leaseDeadline = time.Minute            // a request and its retries
	leaseFaultGap = 1500 * time.Millisecond

	leaseRetryPause = 10 * time.Millisecond
)

// life is what is known about one lease.
type life struct {
	id   clientv3.LeaseID
	keys []string
	ttl  time.Duration
	// sent is when the last successful keep-alive (or the grant) was sent, answered when its answer came. The server
	// counted the TTL from some moment between the two.
	sent, answered time.Time
}

// TestLeases holds leases, alive for a random time, through kills. A lease ends no earlier than its TTL after the last
// keep-alive that was answered, and it does end: no later than its TTL after the last restart.
func TestLeases(t *testing.T) {
	tg := newTarget(t)
	sd := seed(t)
	s := tg.server(t)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	cli := leaseClient(t, s)
	gone := watchDeletes(t, cli)

	ctx, stopFaults := context.WithCancel(t.Context())
	defer stopFaults()
	faulted := make(chan error, 1)
	var kills int
	var restarted time.Time
	go func() {
		rnd := rand.New(rand.NewPCG(sd, 0))
		var err error
		for err == nil && wait(ctx, rnd, leaseFaultGap) == nil {
			kills++
			err = errors.Join(s.Kill(), s.Start())
			restarted = time.Now()
		}
		faulted <- err
	}()

	lives := make([]*life, leaseCount)
	var wg sync.WaitGroup
	for i := range lives {
		rnd := rand.New(rand.NewPCG(sd, uint64(i+1)))
		wg.Go(func() {
			l, err := live(t.Context(), cli, i, rnd)
			if err != nil {
				t.Errorf("lease %d: %v", i, err)
				return
			}
			lives[i] = l
		})
	}
	wg.Wait()
	stopFaults()
	if err := <-faulted; err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	for i, l := range lives {
		if err := l.ended(t.Context(), cli, gone, restarted); err != nil {
			t.Errorf("lease %d (%x, TTL %v): %v", i, l.id, l.ttl, err)
		}
	}
	t.Logf("%d leases, %d kills", len(lives), kills)
}

func leaseClient(t *testing.T, s *hw.Server) *clientv3.Client {
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return cli
}

// live grants a lease, attaches two keys in one transaction and keeps it alive for a random time.
func live(ctx context.Context, cli *clientv3.Client, i int, rnd *rand.Rand) (*life, error) {
	l := &life{keys: []string{fmt.Sprintf("lease/%02d/a", i), fmt.Sprintf("lease/%02d/b", i)}}
	if err := l.begin(ctx, cli, leaseTTLMin+rnd.Int64N(leaseTTLMax-leaseTTLMin+1)); err != nil {
		return nil, err
	}
	end := time.Now().Add(time.Duration(rnd.Int64N(int64(*durationFlag / 2))))
	ticker := time.NewTicker(l.ttl / 8)
	defer ticker.Stop()
	for time.Now().Before(end) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
		if err := l.keepAlive(ctx, cli); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// begin grants the lease and puts its keys; all over again if the server was away for so long that the lease ended.
func (l *life) begin(ctx context.Context, cli *clientv3.Client, ttl int64) error {
	for {
		err := retry(ctx, func(ctx context.Context) error {
			l.sent = time.Now()
			resp, err := cli.Grant(ctx, ttl)
			if err == nil {
				l.answered, l.id, l.ttl = time.Now(), resp.ID, time.Duration(resp.TTL)*time.Second
			}
			return err
		})
		if err != nil {
			return err
		}
		put := func(key string) clientv3.Op { return clientv3.OpPut(key, "v", clientv3.WithLease(l.id)) }
		var notFound bool
		err = retry(ctx, func(ctx context.Context) error {
			_, err := cli.Txn(ctx).Then(put(l.keys[0]), put(l.keys[1])).Commit()
			if notFound = errors.Is(err, rpctypes.ErrLeaseNotFound); notFound {
				return nil
			}
			return err
		})
		switch age := time.Since(l.sent); {
		case err != nil || !notFound:
			return err
		case age < l.ttl:
			return fmt.Errorf("ended early: not found %v after the grant, TTL %v", age, l.ttl)
		}
	}
}

// keepAlive sends one keep-alive. Only the lease's early end is an error.
func (l *life) keepAlive(ctx context.Context, cli *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTry)
	defer cancel()
	sent := time.Now()
	_, err := cli.KeepAliveOnce(ctx, l.id)
	switch now := time.Now(); {
	case err == nil:
		l.sent, l.answered = sent, now
	case errors.Is(err, rpctypes.ErrLeaseNotFound) && now.Sub(l.sent) < l.ttl:
		return fmt.Errorf("ended early: keep-alive says so %v after the last one, TTL %v", now.Sub(l.sent), l.ttl)
	}
	return nil
}

// ended waits for the lease's end and checks when it came.
func (l *life) ended(ctx context.Context, cli *clientv3.Client, gone *deletes, restarted time.Time) error {
	from := l.answered
	if restarted.After(from) {
		from = restarted
	}
	ctx, cancel := context.WithDeadline(ctx, from.Add(l.ttl+leaseSlack))
	defer cancel()
	var rev int64
	for _, key := range l.keys {
		d, err := gone.wait(ctx, key)
		if err != nil {
			return fmt.Errorf("%s is there %v after the last keep-alive: %w", key, time.Since(l.answered), err)
		}
		if age := d.at.Sub(l.sent); age < l.ttl {
			return fmt.Errorf("%s was deleted %v after the last keep-alive", key, age)
		}
		if rev != 0 && d.rev != rev {
			return fmt.Errorf("keys of one lease deleted at revisions %d and %d", rev, d.rev)
		}
		rev = d.rev
	}
	// The keys' lease is no more either; a restart between may have it linger for one more turn of its TTL.
	return retry(ctx, func(ctx context.Context) error {
		resp, err := cli.TimeToLive(ctx, l.id)
		if err == nil && resp.TTL != -1 {
			err = fmt.Errorf("the lease has a TTL of %d s after its keys are gone", resp.TTL)
		}
		return err
	})
}

// retry repeats a request that may fail while the server is away, with a pause between.
func retry(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, leaseDeadline)
	defer cancel()
	ticker := time.NewTicker(leaseRetryPause)
	defer ticker.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, leaseTry)
		err := request(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return err
		}
	}
}

// deletion is a delete as a watcher saw it.
type deletion struct {
	at  time.Time
	rev int64
}

// deletes collects the deletes under lease/.
type deletes struct {
	mu    sync.Mutex
	seen  map[string]deletion
	grown chan struct{} // closed and replaced with every addition
}

func watchDeletes(t *testing.T, cli *clientv3.Client) *deletes {
	d := &deletes{seen: map[string]deletion{}, grown: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ch := cli.Watch(ctx, "lease/", clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithFilterPut())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for resp := range ch {
			if err := resp.Err(); err != nil && ctx.Err() == nil {
				t.Errorf("watch: %v", err)
			}
			d.add(resp.Events)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return d
}

func (d *deletes) add(events []*clientv3.Event) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range events {
		if key := string(e.Kv.Key); d.seen[key].rev == 0 {
			d.seen[key] = deletion{at: now, rev: e.Kv.ModRevision}
		}
	}
	close(d.grown)
	d.grown = make(chan struct{})
}

// wait returns the key's first delete.
func (d *deletes) wait(ctx context.Context, key string) (deletion, error) {
	for {
		d.mu.Lock()
		del, ok := d.seen[key]
		grown := d.grown
		d.mu.Unlock()
		if ok {
			return del, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return deletion{}, ctx.Err()
		}
	}
}
