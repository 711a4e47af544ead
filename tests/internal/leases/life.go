package leases

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// Prefix is the prefix of the keys of all lives.
	Prefix = "lease/"

	try        = 500 * time.Millisecond // one request
	deadline   = time.Minute            // a request and its retries
	retryPause = 10 * time.Millisecond
	// keepAlives is how many keep-alives go into a TTL.
	keepAlives = 8
)

// ErrEarly says that a lease ended before its time.
var ErrEarly = errors.New("ended early")

// Life is what is known about one lease.
type Life struct {
	ID   clientv3.LeaseID
	Keys []string
	TTL  time.Duration
	// Sent is when the last successful keep-alive (or the grant) was sent, Answered when its answer came. The server
	// counted the TTL from some moment between the two.
	Sent, Answered time.Time
	// Pauses are the times between two successive answers to keep-alives (the grant counts as the first) that are
	// longer than the client's interval.
	Pauses []Pause
	// Drift is the fraction of its TTL by which a lease may end early, because the server's clock may be fast. Set
	// it before Run; 0: none.
	Drift float64
}

// Pause is a time without an answered keep-alive.
type Pause struct{ From, To time.Time }

// Live grants a lease of ttl seconds, attaches two keys in one transaction and keeps it alive until end.
func Live(ctx context.Context, cli *clientv3.Client, name string, ttl int64, end time.Time) (*Life, error) {
	l := &Life{}
	return l, l.Run(ctx, cli, name, ttl, end)
}

// Run is Live for a Life whose Drift is set.
func (l *Life) Run(ctx context.Context, cli *clientv3.Client, name string, ttl int64, end time.Time) error {
	if err := l.begin(ctx, cli, name, ttl); err != nil {
		return err
	}
	return l.Keep(ctx, cli, end)
}

// Begin is the first part of Live: the grant and the transaction.
func Begin(ctx context.Context, cli *clientv3.Client, name string, ttl int64) (*Life, error) {
	l := &Life{}
	return l, l.begin(ctx, cli, name, ttl)
}

// Keep is the rest of Live. Its only errors are the lease's early end and the end of the context.
func (l *Life) Keep(ctx context.Context, cli *clientv3.Client, end time.Time) error {
	ticker := time.NewTicker(l.TTL / keepAlives)
	defer ticker.Stop()
	for time.Now().Before(end) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := l.keepAlive(ctx, cli); err != nil {
			return err
		}
		if err := l.look(ctx, cli); err != nil {
			return err
		}
	}
	return nil
}

// begin grants the lease and puts its keys. If the server was away for so long that the lease ended, begin starts again
// with other keys.
func (l *Life) begin(ctx context.Context, cli *clientv3.Client, name string, ttl int64) error {
	for i := 0; ; i++ {
		l.Keys = []string{fmt.Sprintf("%s%s/%d/a", Prefix, name, i), fmt.Sprintf("%s%s/%d/b", Prefix, name, i)}
		err := Retry(ctx, func(ctx context.Context) error {
			sent := time.Now()
			resp, err := cli.Grant(ctx, ttl)
			if err == nil {
				l.Sent, l.Answered, l.ID, l.TTL = sent, time.Now(), resp.ID, time.Duration(resp.TTL)*time.Second
			}
			return err
		})
		if err != nil {
			return err
		}
		put := func(key string) clientv3.Op { return clientv3.OpPut(key, "v", clientv3.WithLease(l.ID)) }
		var notFound bool
		err = Retry(ctx, func(ctx context.Context) error {
			_, err := cli.Txn(ctx).Then(put(l.Keys[0]), put(l.Keys[1])).Commit()
			if notFound = errors.Is(err, rpctypes.ErrLeaseNotFound); notFound {
				return nil
			}
			return err
		})
		if err != nil || !notFound {
			return err
		}
		if err := l.gone(time.Now()); err != nil {
			return fmt.Errorf("put: %w", err)
		}
	}
}

// keepAlive sends one keep-alive. Only the lease's early end is an error.
func (l *Life) keepAlive(ctx context.Context, cli *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, try)
	defer cancel()
	sent := time.Now()
	_, err := cli.KeepAliveOnce(ctx, l.ID)
	now := time.Now()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		if err := l.gone(now); err != nil {
			return fmt.Errorf("keep-alive: %w", err)
		}
	}
	if err != nil {
		return nil // the server is away; the next keep-alive may succeed
	}
	if now.Sub(l.Answered) > 2*l.TTL/keepAlives {
		l.Pauses = append(l.Pauses, Pause{l.Answered, now})
	}
	l.Sent, l.Answered = sent, now
	return nil
}

// look reads the lease's keys. If a key is missing before its time, the lease ended early.
func (l *Life) look(ctx context.Context, cli *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, try)
	defer cancel()
	for _, key := range l.Keys {
		resp, err := cli.Get(ctx, key, clientv3.WithCountOnly())
		if err != nil {
			return nil // as in keepAlive
		}
		if resp.Count == 0 {
			if err := l.gone(time.Now()); err != nil {
				return fmt.Errorf("read of %s: %w", key, err)
			}
		}
	}
	return nil
}

// gone checks that the lease is allowed to be gone at a moment.
func (l *Life) gone(at time.Time) error {
	if age := at.Sub(l.Sent); age < l.TTL-time.Duration(l.Drift*float64(l.TTL)) {
		return fmt.Errorf("lease %x %w: gone %v after the last answered keep-alive was sent, TTL %v",
			l.ID, ErrEarly, age, l.TTL)
	}
	return nil
}

// Ended waits for the lease's end, no longer than until late, and checks when it came and that its keys went at one
// revision. clock may be nil.
func (l *Life) Ended(ctx context.Context, cli *clientv3.Client, gone *Deletes, clock *Clock, late time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, late)
	defer cancel()
	deletions := make([]Deletion, len(l.Keys))
	for i, key := range l.Keys {
		d, err := gone.Wait(ctx, key)
		if err != nil {
			return fmt.Errorf("%s still exists %v after the last keep-alive: %w", key, time.Since(l.Answered), err)
		}
		deletions[i] = d.earlier(clock)
	}
	if err := l.Check(deletions); err != nil {
		return err
	}
	// The keys' lease must be gone too. After a restart it may exist for another TTL.
	return Retry(context.WithoutCancel(ctx), func(ctx context.Context) error {
		resp, err := cli.TimeToLive(ctx, l.ID)
		if err == nil && resp.TTL != -1 {
			err = fmt.Errorf("the lease has a TTL of %d s after its keys are gone", resp.TTL)
		}
		return err
	})
}

// Check judges the deletions of the life's keys.
func (l *Life) Check(deletions []Deletion) error {
	for i, d := range deletions {
		if err := l.gone(d.At); err != nil {
			return fmt.Errorf("%s: %w", l.Keys[i], err)
		}
		if d.Rev != deletions[0].Rev {
			return fmt.Errorf("keys of one lease deleted at revisions %d and %d", deletions[0].Rev, d.Rev)
		}
	}
	return nil
}

// TTL returns a random TTL in seconds, between lo and hi.
func TTL(rnd *rand.Rand, lo, hi int64) int64 { return lo + rnd.Int64N(hi-lo+1) }

// Retry repeats a request that may fail while the server is away, with a pause between, for a minute at most.
func Retry(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	ticker := time.NewTicker(retryPause)
	defer ticker.Stop()
	for {
		once, cancel := context.WithTimeout(ctx, try)
		err := request(once)
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
