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
	"github.com/headwaterdb/headwater/tests/internal/leases"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	leaseCount  = 16
	leaseTTLMin = 2 // seconds; etcd grants no less
	leaseTTLMax = 4
	// leaseSlack is how late a client may see an expiry, with everything on one busy machine. etcd's own loop takes
	// 0.5 s.
	leaseSlack = 30 * time.Second

	leaseFaultGap = 1500 * time.Millisecond
)

// TestLeases keeps leases alive for a random time while the server is killed. A lease ends no earlier than its TTL
// after the last answered keep-alive, and no later than its TTL after the last restart.
func TestLeases(t *testing.T) {
	tg := newTarget(t)
	sd := seed(t)
	s := tg.server(t)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	cli := leaseClient(t, s)
	gone := leases.Watch(t.Context(), cli)
	defer gone.Close()

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

	lives := make([]*leases.Life, leaseCount)
	var wg sync.WaitGroup
	for i := range lives {
		rnd := rand.New(rand.NewPCG(sd, uint64(i+1)))
		wg.Go(func() {
			ttl := leases.TTL(rnd, leaseTTLMin, leaseTTLMax)
			end := time.Now().Add(time.Duration(rnd.Int64N(int64(*durationFlag / 2))))
			l, err := leases.Live(t.Context(), cli, fmt.Sprintf("%02d", i), ttl, end)
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
		from := l.Answered
		if restarted.After(from) {
			from = restarted
		}
		if err := l.Ended(t.Context(), cli, gone, nil, from.Add(l.TTL+leaseSlack)); err != nil {
			t.Errorf("lease %d (%x, TTL %v): %v", i, l.ID, l.TTL, err)
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
