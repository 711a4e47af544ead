package shards

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/lease"
)

// Defaults and limits.
const (
	// DefaultTTL is for how long a pod that says nothing keeps its shards. The takeover takes a quarter more at most,
	// the time between two looks: less than 2 s. Clients whose leases live shorter than that may lose patience with
	// them.
	DefaultTTL = 1500 * time.Millisecond
	// ownerWaitFactor bounds how long a request waits for its shard to have an owner that answers, TTL*ownerWaitFactor.
	ownerWaitFactor = 3
	// retryDivisor sets the pause before a request looks again for its owner without having been told of a change.
	retryDivisor = 16
	// renewalStreams is how many streams carry the renewals forwarded to one other pod.
	renewalStreams = 4
	// renewalsForwardedMax bounds the renewals that wait for their answer on one stream to another pod.
	renewalsForwardedMax = 1 << 14
	// idAttemptsMax is how many random ids are tried for a lease whose client leaves the choice to the server.
	idAttemptsMax = 16
	// grantsUnsureMax is how many grants with a random id may end with an unknown outcome before the client is told.
	// A lease that was granted all the same is never named to anybody and expires.
	grantsUnsureMax = 3
	// goodbyeMax bounds the time that the removal of the member row takes at the end.
	goodbyeMax = time.Second
)

// Options configure Shards. Self and Dial are required; the zero value of the others means their default.
type Options struct {
	// Self is the host:port under which other pods reach this one's Lease service. No two pods have the same.
	Self string
	// Dial returns a client of the Lease service of the pod at addr. It must not wait for the network (grpc.NewClient
	// does not), and the connection should notice a peer that is gone (keepalive.ClientParameters). It is called once
	// per address until the client is no longer needed; one that implements io.Closer is closed then.
	Dial func(addr string) (pb.LeaseClient, error)
	// TTL is for how long a pod that says nothing keeps its shards, and its place. Default DefaultTTL.
	TTL time.Duration
	// Keeper configures the keepers. What makes them keepers of a shard is set here.
	Keeper lease.Options
	// Now reads the pod's clock, which must be monotonic. Default: time.Now.
	Now    func() time.Time
	Logger *slog.Logger // default: none
	// Beat, if set, is called at each beat of the elections: see election.GroupOptions.
	Beat func()

	work Work // of Places: what is done instead of keeping leases
}

func (o *Options) ensureDefaults() {
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Keeper.Now == nil {
		o.Keeper.Now = o.Now
	}
	if o.Keeper.Logger == nil {
		o.Keeper.Logger = o.Logger
	}
	if o.Keeper.Meter == nil {
		o.Keeper.Meter = lease.NewMeter()
	}
}

func (o *Options) validate() error {
	switch {
	case o.Self == "" || len(o.Self) > election.HolderMax:
		return fmt.Errorf("shards: address of %d bytes not in 1…%d", len(o.Self), election.HolderMax)
	case o.Dial == nil && o.work == nil:
		return errors.New("shards: no Dial")
	case o.TTL < election.TTLMin:
		return fmt.Errorf("shards: TTL %v below %v", o.TTL, election.TTLMin)
	}
	return nil
}

// Shards keeps a part of a keyspace's leases and forwards what concerns the others to the pods that keep them. It
// implements etcdapi.LeaseKeeper: its methods but Run may be called from any goroutine at any time. Requests wait,
// for a bounded time, while nobody keeps the lease they are about.
type Shards struct {
	store loader
	eng   engine.Store
	o     Options
	start time.Time

	members     []byte // prefix of the member rows
	incarnation uint64
	renewals    uint64 // of the member row; of the group's goroutine
	view        view   // of the group's goroutine
	badRows     bool   // a member row could not be read; of the same
	group       *election.Group

	shards  [Count]shard
	running atomic.Bool
	stopped chan struct{} // closed when Run ends
	ready   chan struct{} // closed when every shard has had an owner
	once    sync.Once
	leaving atomic.Bool

	mu      sync.Mutex
	plan    plan
	planned bool          // the members have been looked at since Run or Drain began
	changed chan struct{} // closed at the next change of plan or of a shard
	peers   map[string]*peer

	forwarded, misrouted atomic.Uint64
}

// New returns Shards for the leases in store, which lie in eng; coordination rows have the prefix prefix. It does
// nothing before Run.
func New(store lease.Store, eng engine.Store, prefix []byte, o Options) (*Shards, error) {
	o.ensureDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	n := len(prefix)
	var incarnation [8]byte
	rand.Read(incarnation[:])
	s := &Shards{
		store:       loader{Store: store},
		eng:         eng,
		o:           o,
		start:       o.Now(),
		members:     append(prefix[:n:n], 'm'),
		incarnation: binary.BigEndian.Uint64(incarnation[:]),
		stopped:     make(chan struct{}),
		ready:       make(chan struct{}),
		changed:     make(chan struct{}),
		peers:       map[string]*peer{},
	}
	var err error
	s.group, err = election.NewGroup(eng, election.GroupOptions{
		Prefix: prefix, Beside: s.attend, Beat: o.Beat, Now: o.Now, Logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	for i := range s.shards {
		if err := s.shards[i].init(s, i, append(prefix[:n:n], 's', byte(i))); err != nil {
			return nil, err
		}
	}
	if o.work != nil {
		return s, nil
	}
	if _, err := s.shards[0].newKeeper(func() bool { return false }); err != nil {
		return nil, err // of Options.Keeper
	}
	return s, nil
}

func (s *Shards) now() instant { return s.o.Now().Sub(s.start) }

// Run takes part until ctx ends, then it gives up its shards and returns nil. Errors: engine.ErrClosed, and rows of
// another format. A store that is unavailable is waited out. It may be called once.
func (s *Shards) Run(ctx context.Context) error {
	if s.running.Swap(true) {
		return errors.New("shards: run twice")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i := range s.shards {
		h := &s.shards[i]
		wg.Go(func() {
			if err := h.candidate.Run(ctx, h.lead); err != nil {
				cancel(err)
			}
		})
	}
	// The elections go on until the last of the shards has been given up.
	beating, still := context.WithCancel(context.WithoutCancel(ctx))
	var beats sync.WaitGroup
	beats.Go(func() {
		if err := s.group.Run(beating); err != nil {
			cancel(err)
		}
	})
	<-ctx.Done()
	s.leaving.Store(true)
	s.group.Hurry()
	wg.Wait()
	still()
	beats.Wait()
	s.goodbye(ctx)
	close(s.stopped)
	s.closePeers()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Ready is closed when every shard has had an owner, here or elsewhere.
func (s *Shards) Ready() <-chan struct{} { return s.ready }

// Owned returns the shards that are kept here.
func (s *Shards) Owned() []int {
	var owned []int
	for i := range s.shards {
		if s.shards[i].here() {
			owned = append(owned, i)
		}
	}
	return owned
}

// Drain makes the pod leave: it gives its shards to the others as they become ready for them, and goes on forwarding
// requests. It returns nil when it has none left or when there is no other pod, and ctx's error if that ends before.
// Afterwards Run's context is to be ended. There is no way back.
func (s *Shards) Drain(ctx context.Context) error {
	if !s.leaving.Swap(true) {
		s.mu.Lock()
		s.planned = false
		s.mu.Unlock()
	}
	s.group.Hurry()
	for {
		s.mu.Lock()
		changed, alone := s.changed, s.planned && s.plan.alone
		s.mu.Unlock()
		if alone || len(s.Owned()) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-s.stopped:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// announce wakes those who wait for a change of plan or of a shard's owner.
func (s *Shards) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.announceLocked()
}

func (s *Shards) announceLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// adopt makes p the plan.
func (s *Shards) adopt(p plan) {
	s.mu.Lock()
	old := s.plan
	changed := old != p || !s.planned
	s.plan, s.planned = p, true
	if changed {
		s.announceLocked()
	}
	s.mu.Unlock()
	if !changed {
		return
	}
	s.o.Logger.Info("lease shards placed", "mine", p.mine.String(), "yields", p.yields.String())
	for i := range s.shards {
		if p.mine.has(i) && !old.mine.has(i) {
			s.shards[i].candidate.Nudge()
		}
	}
}

// current returns the plan, and a channel that is closed when it may have changed.
func (s *Shards) current() (plan, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan, s.changed
}

// String lists the shards, for logs.
func (s set) String() string { return fmt.Sprintf("%0*b", Count, uint16(s)) }

// wake sends on a channel with room for one unless that is full already.
func wake(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
