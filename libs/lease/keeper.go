package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Limits and defaults.
const (
	// MaxTTL is the longest time to live that is granted, in seconds: etcd's (lease.MaxLeaseTTL), about 285 years.
	MaxTTL = 9_000_000_000

	// DefaultMinTTL is the shortest time to live, in seconds; shorter ones are raised to it. etcd computes the same
	// from its default election timeout: 1.5 times ten ticks of 100 ms, rounded up.
	DefaultMinTTL = 2
	// DefaultExtension is added to the full time to live of all leases when the keeper starts, so that clients can find
	// it. etcd's new leader adds its election timeout, 1 s, at the same point.
	DefaultExtension = time.Second
	// DefaultRevokes is how many expired leases are revoked at a time. It bounds the wait of a write that arrives
	// during a burst of expiries, and fills group commits.
	DefaultRevokes = 64

	// idAttemptsMax is how many random ids are tried when the client leaves the choice to the server.
	idAttemptsMax = 16
	// idleMax bounds the sleep of the expiry loop.
	idleMax = time.Hour
)

// GoneTTL is the time to live in etcd's answers for a lease that does not exist. Its v3rpc layer answers with this
// number where other requests get an error.
const GoneTTL = -1

// Errors of the keeper. Those of the store (mvcc.ErrLeaseNotFound, mvcc.ErrLeaseExists and others) are returned as they
// are.
var (
	// ErrTTLTooLarge: the requested time to live is above MaxTTL.
	ErrTTLTooLarge = errors.New("lease: too large lease TTL")
	// ErrStopped: the keeper has stopped; nothing can be said about any lease.
	ErrStopped = errors.New("lease: keeper stopped")
	// ErrNotOwner: another keeper has claimed the leases; nothing can be said about any lease here.
	ErrNotOwner = errors.New("lease: another keeper owns the leases")

	// ErrTooMany: there are as many leases as Options.Max.
	ErrTooMany = errors.New("lease: too many leases")

	errShelved = &mvcc.Damage{What: "an expired lease's keys", Err: mvcc.ErrCorrupt}
)

// Options configure a Keeper. The zero value of each field means its default.
type Options struct {
	MinTTL    int64         // seconds; default DefaultMinTTL
	Extension time.Duration // default DefaultExtension; negative: none
	Revokes   int           // default DefaultRevokes
	Small     bool          // the keeper is one of many and uses less memory; default: it is made for many CPUs
	Max       int           // leases at a time, beyond which grants fail with ErrTooMany; default: no bound
	Logger    *slog.Logger  // default: none
	Meter     *Meter        // counts for several keepers; default: the keeper's own

	// Now reads the keeper's clock, which must be monotonic. Default: time.Now.
	Now func() time.Time

	// Holds makes the keeper one of several, each for a shard of the leases. It reports whether no other keeper can
	// have claimed the shard yet (election.Term.Holds). It is asked after each look at the table and before that is
	// answered, so it must be cheap. Default: the keeper is alone.
	Holds func() bool
	// Owns reports whether a lease belongs to the shard. For others the keeper answers ErrNotOwner. The result for an
	// id never changes. Default: all leases.
	Owns func(id int64) bool
	// Shard is the number of the shard.
	Shard int

	// Parked is what an earlier keeper with the same claim of the shard has left. The claim must not have ended since.
	// Default: the leases are claimed and read.
	Parked *Parked
}

func (o *Options) ensureDefaults() {
	if o.MinTTL == 0 {
		o.MinTTL = DefaultMinTTL
	}
	switch {
	case o.Extension == 0:
		o.Extension = DefaultExtension
	case o.Extension < 0:
		o.Extension = 0
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Revokes == 0 {
		o.Revokes = DefaultRevokes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *Options) validate() error {
	if o.MinTTL < 1 || o.MinTTL > MaxTTL {
		return fmt.Errorf("lease: minimum TTL %d not in 1…%d", o.MinTTL, int64(MaxTTL))
	}
	if o.Shard < 0 {
		return fmt.Errorf("lease: shard %d < 0", o.Shard)
	}
	if o.Revokes < 1 {
		return fmt.Errorf("lease: revokes at a time %d < 1", o.Revokes)
	}
	return nil
}

// Keeper owns the leases of a keyspace: it keeps their deadlines, answers requests about them, and revokes expired
// ones. All methods but Run may be called from any goroutine at any time. Before Run has loaded the leases they wait,
// or fail with mvcc.ErrCorrupt if damaged data prevents that. After Run has returned they fail with ErrStopped or
// ErrNotOwner.
type Keeper struct {
	store Store
	opt   Options
	start time.Time
	table *table
	wake  chan struct{} // tells the expiry loop that the queue has a new first entry
	count *Meter

	serving atomic.Bool   // between ready and stopped
	ready   chan struct{} // closed when the leases are loaded
	stopped chan struct{} // closed when Run ends
	stopErr error         // set before stopped is closed
	runErr  error         // as stopErr: why Run has ended
	running atomic.Bool

	damageOnce sync.Once
	damaged    chan struct{} // closed when the leases could not be read because of damaged data
	damage     error         // set before damaged is closed

	// Set before serving.
	fence  mvcc.Fence
	depose context.CancelCauseFunc // ends Run
}

// New returns a keeper for the leases in store. It does nothing before Run.
func New(store Store, o Options) (*Keeper, error) {
	o.ensureDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	bits := fullBits
	if o.Small {
		bits = smallBits
	}
	k := &Keeper{
		store:   store,
		opt:     o,
		start:   o.Now(),
		table:   newTable(bits),
		wake:    make(chan struct{}, 1),
		count:   o.Meter,
		ready:   make(chan struct{}),
		stopped: make(chan struct{}),
		damaged: make(chan struct{}),
	}
	k.table.max = int64(o.Max)
	if k.count == nil {
		k.count = NewMeter()
		k.count.add(k.table)
	}
	return k, nil
}

// Run claims the leases, loads them with their full time to live, and expires them. It returns nil when ctx ends,
// ErrNotOwner when another keeper claims the leases, and an error if they cannot be claimed or loaded. A lack of space,
// an unavailable store and damaged data are waited out. It may be called once.
//
// The claim comes before the load. What another keeper decides after the claim fails on its fence, so the load sees
// every lease that may still be alive. A keeper of a shard uses its claim only if it still holds the shard afterwards.
// If it was deposed before its claim arrived, the claim voids the fence of the rightful keeper. That keeper must then
// claim again, but the deposed one must not expire leases that it has renewed.
func (k *Keeper) Run(ctx context.Context) error {
	if k.running.Swap(true) {
		return errors.New("lease: keeper run twice")
	}
	if k.opt.Meter != nil {
		k.count.add(k.table)
		defer k.count.remove(k.table)
	}
	owning, depose := context.WithCancelCause(ctx)
	defer depose(nil)
	k.depose = depose
	err := k.run(owning)
	k.stopErr, k.runErr = ErrStopped, err
	if errors.Is(err, ErrNotOwner) || k.opt.Holds != nil {
		k.stopErr = ErrNotOwner // a shard has another owner, or will have
	}
	k.serving.Store(false)
	close(k.stopped)
	if ctx.Err() != nil && !errors.Is(err, ErrNotOwner) {
		return nil
	}
	return err
}

func (k *Keeper) run(ctx context.Context) error {
	if p := k.opt.Parked; p != nil {
		k.resume(p)
		k.serve(p.fence, p.Len())
		return k.expire(ctx, p.fence)
	}
	fence, leases, err := k.open(ctx)
	for attempts := 1; errors.Is(err, mvcc.ErrNoSpace) || errors.Is(err, mvcc.ErrUnavailable) || errors.Is(err, mvcc.ErrCorrupt); attempts++ {
		// While the disk is full or the store cannot be reached, the keeper and its callers wait; reads are served
		// meanwhile. The same holds for damaged data, but callers are told of it.
		if attempts == 1 {
			k.opt.Logger.Warn("the leases cannot be claimed and loaded yet; will retry", "error", err)
		}
		wait := ofAll.Pause(attempts)
		if errors.Is(err, mvcc.ErrCorrupt) {
			wait = damagedRetry
			k.damageOnce.Do(func() { k.damage = err; close(k.damaged) })
		}
		if retry.Sleep(ctx, wait) != nil {
			return context.Cause(ctx)
		}
		fence, leases, err = k.open(ctx)
	}
	if err != nil {
		return err
	}
	loaded := len(leases)
	k.table.load(leases, k.now(), k.opt.Extension)
	k.serve(fence, loaded)
	return k.expire(ctx, fence)
}

// serve starts to answer requests.
func (k *Keeper) serve(fence mvcc.Fence, loaded int) {
	k.fence = fence
	k.serving.Store(true)
	close(k.ready)
	k.opt.Logger.Info("lease keeper ready", "leases", loaded)
}

// open claims the leases and reads them.
func (k *Keeper) open(ctx context.Context) (mvcc.Fence, []*entry, error) {
	fence, err := k.store.ClaimLeases(ctx, k.opt.Shard)
	if err != nil {
		return fence, nil, fmt.Errorf("lease: claiming the leases: %w", err)
	}
	if !k.holds() {
		return fence, nil, ErrNotOwner
	}
	var leases []*entry
	err = k.store.Leases(ctx, func(id, ttl int64) error {
		if k.owns(id) {
			e := newEntry(id, max(ttl, k.opt.MinTTL))
			e.ending.Store(ttl == mvcc.LeaseEnding)
			leases = append(leases, e)
		}
		return nil
	})
	if err != nil {
		return fence, nil, fmt.Errorf("lease: loading the leases: %w", err)
	}
	return fence, leases, nil
}

// holds reports whether the keeper may answer from the table.
func (k *Keeper) holds() bool { return k.opt.Holds == nil || k.opt.Holds() }

// owns reports whether a lease belongs to the keeper's shard.
func (k *Keeper) owns(id int64) bool { return k.opt.Owns == nil || k.opt.Owns(id) }

// owner returns err. If err says that another keeper has claimed the leases, it also ends Run.
func (k *Keeper) owner(err error) error {
	if errors.Is(err, mvcc.ErrFenced) {
		k.depose(ErrNotOwner)
		return ErrNotOwner
	}
	return err
}

// Ready is closed when the keeper answers.
func (k *Keeper) Ready() <-chan struct{} { return k.ready }

// now reads the keeper's clock, which is monotonic and starts at 1: a clock set back or forward changes no deadline.
func (k *Keeper) now() instant { return int64(k.opt.Now().Sub(k.start)) + 1 }

// await waits until the keeper answers requests, or returns the reason why it will not.
func (k *Keeper) await(ctx context.Context) error {
	if k.serving.Load() {
		return nil
	}
	select {
	case <-k.stopped:
		return k.stopErr
	default:
	}
	select {
	case <-k.ready:
		return nil
	case <-k.damaged:
		if k.serving.Load() {
			return nil
		}
		return k.damage
	case <-k.stopped:
		return k.stopErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitFor waits until busy is closed, or returns the reason why that will not happen.
func (k *Keeper) waitFor(ctx context.Context, busy <-chan struct{}) error {
	select {
	case <-busy:
		return nil
	case <-k.stopped:
		return k.stopErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nudge wakes the expiry loop if the queue's first entry has changed.
func (k *Keeper) nudge(first bool) {
	if !first {
		return
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}
