package valueload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/bench/load"
)

const (
	prefix       = "/values/"
	besidePrefix = "/beside/"
	besideKeys   = 1000
	besideBytes  = 256 // of a value of the other client
)

func dial(endpoint string) (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, DialTimeout: dialTimeout, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", endpoint, err)
	}
	return c, nil
}

// dialAll opens the connections of a fill.
func dialAll(o *Options) (cs []*clientv3.Client, closeAll func(), err error) {
	closeAll = func() {
		for _, c := range cs {
			_ = c.Close() // only ever reports the cancellation of its own context
		}
	}
	for range o.Conns {
		c, err := dial(o.Endpoint)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		cs = append(cs, c)
	}
	return cs, closeAll, nil
}

func keyAt(i int64) string { return prefix + strconv.FormatInt(i, 10) }

// fill makes n puts from o.Clients clients at once: put i writes key(i).
func fill(ctx context.Context, o *Options, n int64, key func(int64) string, opts ...clientv3.OpOption) error {
	cs, closeAll, err := dialAll(o)
	if err != nil {
		return err
	}
	defer closeAll()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	vs := load.NewValues(o.ValSize, o.Seed)
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range o.Clients {
		wg.Go(func() {
			c, r := cs[w%len(cs)], rand.New(rand.NewPCG(o.Seed, uint64(w)))
			for i := next.Add(1) - 1; i < n && ctx.Err() == nil; i = next.Add(1) - 1 {
				if _, err := c.Put(ctx, key(i), vs.Next(r), opts...); err != nil {
					cancel(fmt.Errorf("fill: %w", errors.Join(err, context.Cause(ctx))))
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// span is when a put was sent and when it was answered.
type span struct{ begin, end time.Time }

func (s span) took() time.Duration { return s.end.Sub(s.begin) }

// overlaps reports whether the put was under way at some time in [begin, end].
func (s span) overlaps(begin, end time.Time) bool { return !s.begin.After(end) && !s.end.Before(begin) }

// beside is another client, which puts small values one after the other.
type beside struct {
	client *clientv3.Client
	cancel context.CancelFunc
	ended  chan struct{}
	puts   []span // the loop's until ended is closed
	err    error
}

func startBeside(ctx context.Context, o *Options) (*beside, error) {
	c, err := dial(o.Endpoint)
	if err != nil {
		return nil, err
	}
	b := &beside{client: c, ended: make(chan struct{})}
	ctx, b.cancel = context.WithCancel(ctx)
	go b.loop(ctx, load.NewValues(besideBytes, o.Seed), rand.New(rand.NewPCG(o.Seed, besideKeys)))
	return b, nil
}

func (b *beside) loop(ctx context.Context, vs load.Values, r *rand.Rand) {
	defer close(b.ended)
	for n := 0; ctx.Err() == nil; n++ {
		begin := time.Now()
		_, err := b.client.Put(ctx, besidePrefix+strconv.Itoa(n%besideKeys), vs.Next(r))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			b.err = fmt.Errorf("a put of the other client, after %v: %w", time.Since(begin).Round(time.Millisecond),
				err)
			return
		}
		b.puts = append(b.puts, span{begin, time.Now()})
	}
}

// stop ends the client and returns its puts. It may be called more than once, from one goroutine.
func (b *beside) stop() ([]span, error) {
	b.cancel()
	<-b.ended
	_ = b.client.Close()
	return b.puts, b.err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
