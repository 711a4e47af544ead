//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/config"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
	"github.com/headwaterdb/headwater/tests/internal/leases"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

const (
	// limitedKeyspace begins the names of keyspaces that each have one limit, which is reached, and raised later.
	limitedKeyspace = "limited-"
	limitedPause    = 30 * time.Millisecond  // between two requests of a client, at most
	refusedPause    = 400 * time.Millisecond // after a refused one, at most
	limitedTTL      = 3600                   // seconds: no lease ends in a run
	limitedValue    = 8 << 10                // bytes of a value under a limit of bytes
	// bytesSlack is how much more than its limit of bytes the clients here may put: what they send while a group may
	// not see what others have written (250 ms), and what was under way in a pod that stood still.
	bytesSlack = 512 << 10
	raise      = 1000 // by which a limit is multiplied
)

// limit is a kind of limit: which it is, what is done under it, and what is told of the use.
type limit struct {
	name string
	set  func(l *keyspacev1.Limits, n uint64)
	low  func(r *rand.Rand) uint64
	// ask is one request that uses some of it.
	ask func(ctx context.Context, cli *clientv3.Client, name string) error
	// atOnce is how many such requests a client has under way.
	atOnce int
	// most is how many answered requests there may be under limit n.
	most func(w *world, n uint64, took time.Duration) uint64
	// use reads how much is in use; nil: that cannot be told.
	use func(ctx context.Context, cli *clientv3.Client) (uint64, error)
}

func put(bytes int) func(context.Context, *clientv3.Client, string) error {
	return func(ctx context.Context, cli *clientv3.Client, name string) error {
		_, err := cli.Put(ctx, name, strings.Repeat("v", bytes))
		return err
	}
}

func asMany(_ *world, n uint64, _ time.Duration) uint64 { return n }

// allLimits are those that can be judged.
var allLimits = []limit{
	{
		name: "keys", set: func(l *keyspacev1.Limits, n uint64) { l.Keys = n }, ask: put(1), most: asMany,
		atOnce: 3, // so that some are under way where the limit is
		low:    func(r *rand.Rand) uint64 { return 5 + r.Uint64N(40) },
		use: func(ctx context.Context, cli *clientv3.Client) (uint64, error) {
			resp, err := cli.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithCountOnly())
			if err != nil {
				return 0, err
			}
			return uint64(resp.Count), nil
		},
	},
	{
		name: "bytes", set: func(l *keyspacev1.Limits, n uint64) { l.Bytes = n }, ask: put(limitedValue),
		low:  func(r *rand.Rand) uint64 { return 100_000 + r.Uint64N(100_000) },
		most: func(_ *world, n uint64, _ time.Duration) uint64 { return (n + bytesSlack) / limitedValue },
	},
	{
		name: "leases", set: func(l *keyspacev1.Limits, n uint64) { l.Leases = n }, most: asMany,
		low: func(r *rand.Rand) uint64 { return 3 + r.Uint64N(20) },
		ask: func(ctx context.Context, cli *clientv3.Client, _ string) error {
			_, err := cli.Grant(ctx, limitedTTL)
			return err
		},
		use: func(ctx context.Context, cli *clientv3.Client) (uint64, error) {
			resp, err := cli.Leases(ctx)
			if err != nil {
				return 0, err
			}
			return uint64(len(resp.Leases)), nil
		},
	},
	{
		name: "request_bytes", set: func(l *keyspacev1.Limits, n uint64) { l.RequestBytes = n }, ask: put(limitedValue),
		low:  func(r *rand.Rand) uint64 { return 1000 + r.Uint64N(limitedValue-1000) },
		most: func(*world, uint64, time.Duration) uint64 { return 0 },
	},
	{
		name: "writes_per_second", set: func(l *keyspacev1.Limits, n uint64) { l.WritesPerSecond = n }, ask: put(1),
		low: func(r *rand.Rand) uint64 { return 2 + r.Uint64N(4) },
		// Each life of a kv pod has a second's worth to begin with, and another when the keyspace is opened again.
		most: func(w *world, n uint64, took time.Duration) uint64 {
			lives, pods := 0, 0
			for _, p := range w.of(config.KV) {
				lives += p.attempts
				pods += min(p.attempts, 1)
			}
			return n * (uint64(2*lives) + uint64(pods)*uint64(took/time.Second+1))
		},
	},
}

// limited is clients of a keyspace that has a limit.
type limited struct {
	w      *world
	limit  limit
	n      uint64
	clis   []*clientv3.Client
	cancel context.CancelFunc
	wg     sync.WaitGroup
	began  time.Time

	mu      sync.Mutex
	answers int // while the limit was as low as it was
	refused int
	failed  []error
}

// keyspace is that of a limit.
func (l *limit) keyspace() string { return limitedKeyspace + strings.ReplaceAll(l.name, "_", "-") }

// limits are those of the run.
func (w *world) limits() []limit {
	if w.plan.limits == "" {
		return allLimits
	}
	names := strings.Split(w.plan.limits, ",")
	return slices.DeleteFunc(slices.Clone(allLimits), func(l limit) bool { return !slices.Contains(names, l.name) })
}

// startLimited makes keyspaces with a limit each and has clients use more than it allows.
func (w *world) startLimited(ctx context.Context) (all []*limited, err error) {
	if w.plan.limited == 0 {
		return nil, nil
	}
	for _, kind := range w.limits() {
		l, err := w.startLimitedBy(ctx, kind)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

func (w *world) startLimitedBy(ctx context.Context, kind limit) (*limited, error) {
	r := w.rand("limit of " + kind.name)
	l := &limited{w: w, limit: kind, n: kind.low(r)}
	limits := &keyspacev1.Limits{}
	l.limit.set(limits, l.n)
	if err := w.createKeyspace(ctx, l.limit.keyspace(), &adminv1.Settings{Limits: limits}); err != nil {
		return nil, err
	}
	w.tracef("limits", "%s: %d", l.limit.name, l.n)
	ctx = in(ctx, l.limit.keyspace())
	l.began = time.Now()
	ctx, l.cancel = context.WithCancel(ctx)
	for i := range w.plan.limited {
		cli, err := w.client(w.addrs(outside, w.first())...)
		if err != nil {
			return nil, err
		}
		l.clis = append(l.clis, cli)
		l.wg.Go(func() { l.ask(ctx, cli, i, w.rand(fmt.Sprint(l.limit.keyspace(), i))) })
	}
	return l, nil
}

// ask asks for more until ctx ends.
func (l *limited) ask(ctx context.Context, cli *clientv3.Client, i int, r *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		time.Sleep(between(r, time.Millisecond, limitedPause))
		once, cancel := context.WithTimeout(ctx, loginTimeout)
		if l.askOnce(once, cli, fmt.Sprintf("%d/%d", i, n)) {
			time.Sleep(between(r, 0, refusedPause))
		}
		if n%5 == 0 && ctx.Err() == nil {
			l.look(once, cli)
		}
		cancel()
	}
}

// askOnce sends as many requests as a client has under way. It says whether one was refused.
func (l *limited) askOnce(ctx context.Context, cli *clientv3.Client, name string) (refused bool) {
	errs := make(chan error)
	n := max(l.limit.atOnce, 1)
	for i := range n {
		go func() { errs <- l.limit.ask(ctx, cli, fmt.Sprint(name, "/", i)) }()
	}
	for range n {
		err := <-errs
		l.count(err)
		refused = refused || isRefusal(err)
	}
	return refused
}

// look looks at how much is in use.
func (l *limited) look(ctx context.Context, cli *clientv3.Client) {
	if l.limit.use == nil {
		return
	}
	if used, err := l.limit.use(ctx, cli); err == nil && used > l.n {
		l.fail(fmt.Errorf("limits: %d %s are in use, where the limit is %d", used, l.limit.name, l.n))
	}
}

func (l *limited) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, err)
}

func (l *limited) count(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.answers++
	case isRefusal(err):
		l.refused++
	}
}

func isRefusal(err error) bool {
	return errors.Is(err, rpctypes.ErrNoSpace) || errors.Is(err, rpctypes.ErrTooManyRequests) ||
		errors.Is(err, rpctypes.ErrRequestTooLarge)
}

// judgeLimited judges all limits.
func judgeLimited(ctx context.Context, all []*limited) error {
	var judges []func(context.Context) error
	for _, l := range all {
		judges = append(judges, l.judge)
	}
	return together(ctx, judges...)
}

// judge says whether the limit was exceeded, and whether requests succeed once it is raised.
func (l *limited) judge(ctx context.Context) error {
	l.cancel()
	l.wg.Wait()
	took := time.Since(l.began)
	l.w.tracef("limits", "%s: %d answered, %d refused", l.limit.name, l.answers, l.refused)
	l.w.seen.add("limits: "+l.limit.name+" refused", l.refused)
	once, cancel := context.WithTimeout(in(ctx, l.limit.keyspace()), loginTimeout)
	defer cancel()
	l.look(once, l.clis[0])
	errs := l.failed
	if most := l.limit.most(l.w, l.n, took); uint64(l.answers) > most {
		errs = append(errs, fmt.Errorf("limits: %d requests were answered in %v, where a limit of %d %s allows %d",
			l.answers, took, l.n, l.limit.name, most))
	}
	errs = append(errs, l.raised(ctx))
	for _, cli := range l.clis {
		errs = append(errs, cli.Close())
	}
	return errors.Join(errs...)
}

// raised raises the limit: then each client's request has to succeed.
func (l *limited) raised(ctx context.Context) error {
	limits := &keyspacev1.Limits{}
	l.limit.set(limits, l.n*raise)
	err := l.w.admin(ctx, func(ctx context.Context, k adminv1.KeyspacesClient) error {
		_, err := k.Change(ctx, &adminv1.ChangeRequest{
			Name: l.limit.keyspace(), Settings: &adminv1.Settings{Limits: limits},
			Mask: &fieldmaskpb.FieldMask{Paths: []string{"limits." + l.limit.name}},
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("limits: cannot be raised: %w", err)
	}
	ctx, cancel := context.WithTimeout(in(ctx, l.limit.keyspace()), liveWithin)
	defer cancel()
	for i, cli := range l.clis {
		err := leases.Retry(ctx, func(ctx context.Context) error {
			err := l.limit.ask(ctx, cli, fmt.Sprint("raised ", i))
			if errors.Is(err, rpctypes.ErrNoSpace) { // the alarm stays until an operator clears it
				_, disarm := cli.AlarmDisarm(ctx, &clientv3.AlarmMember{})
				return errors.Join(err, disarm)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("limits: a request is refused although the limit of %s is raised: %w", l.limit.name, err)
		}
	}
	l.w.seen.note("limits: " + l.limit.name + " raised")
	return nil
}

// createKeyspace creates a keyspace as an operator does.
func (w *world) createKeyspace(ctx context.Context, name string, s *adminv1.Settings) error {
	return w.admin(ctx, func(ctx context.Context, k adminv1.KeyspacesClient) error {
		_, err := k.Create(ctx, &adminv1.CreateRequest{Name: name, Settings: s})
		if status.Code(err) == codes.AlreadyExists { // an attempt whose answer was lost
			return nil
		}
		return err
	})
}
