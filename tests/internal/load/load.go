package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"golang.org/x/time/rate"
)

// Profile is a kind of traffic.
type Profile int

const (
	KeyValue Profile = iota + 1
	Kubernetes
)

func (p Profile) String() string {
	switch p {
	case KeyValue:
		return "key-value"
	case Kubernetes:
		return "kubernetes"
	}
	return fmt.Sprintf("Profile(%d)", int(p))
}

// Config says what traffic to make. A field may be zero only if its comment says so.
type Config struct {
	Endpoints []string // clients take them in turn, one each
	// Failover gives two clients of four all Endpoints, so that they turn to another server when theirs has gone.
	Failover bool
	Profile  Profile
	Seed     uint64
	Clients  int     // concurrent clients that write and read
	Watchers int     // concurrent clients that watch, half of them for long
	Rate     float64 // requests per second of all clients together
	// Compact runs compactions. It may be false.
	Compact bool
	// Sparse says that the server does not number densely: the history has to be mapped to ranks before it is judged.
	Sparse bool
	// LargeBytes is the size of the KeyValue profile's large values; 0: none.
	LargeBytes int
}

const (
	// requestTimeout is how long a request may take. It is short, so that a paused server causes unknown outcomes.
	requestTimeout = 400 * time.Millisecond
	// lastTimeout bounds the requests at the end of a run, which have to succeed.
	lastTimeout = time.Minute

	// progressTimeout is how long the traffic may go on without a successful request.
	progressTimeout = time.Minute
	progressPoll    = 5 * time.Millisecond

	// completeRequests is so many answered requests that every kind is among them, whatever the seed.
	completeRequests = 1000
	// completeTimeout is how long GoesOn waits for a run to be complete.
	completeTimeout = 2 * time.Minute

	// concurrentDeletes bounds the deletes and revocations under way, because no unique values tell them apart.
	concurrentDeletes = 3
)

// Run is traffic under way.
type Run struct {
	cfg  Config
	ids  identity.Provider
	base time.Time
	set  *client.ClientSet // writers and watchers
	lim  *rate.Limiter
	del  chan struct{} // tokens, see concurrentDeletes
	keys *keys         // KeyValue
	objs *objects      // Kubernetes

	recorder *Recorder
	serial   *serialReader

	clients   atomic.Int64
	succeeded atomic.Int64
	failed    atomic.Int64

	// What Complete requires, besides answered requests.
	compacted  atomic.Bool // a compaction was done
	revoked    atomic.Bool // a lease was revoked
	bookmarked atomic.Bool // a watch with a start revision got bookmarkedEvents and then a bookmark

	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu  sync.Mutex
	err error
}

// History is what a run recorded.
type History struct {
	Reports []report.ClientReport
	// Serializable holds the serializable reads, because etcd's model has no place for them.
	Serializable []SerializableRead
	// Events are all the events that the Recorder saw, in the order of their revisions.
	Events []*clientv3.Event
	// Last is the revision of the last write, which was acknowledged.
	Last int64
	// Acked and Failed count the requests of the profile's clients.
	Acked, Failed int64
	// Base is the moment at which the clock of Reports was 0.
	Base time.Time
}

// Start checks that the server is empty (etcd's model starts at revision 1) and starts the traffic.
func Start(ctx context.Context, cfg Config) (*Run, error) {
	ids, base := identity.NewIDProvider(), time.Now()
	r := &Run{
		cfg:  cfg,
		ids:  ids,
		base: base,
		set:  client.NewSet(ids, base),
		lim:  rate.NewLimiter(rate.Limit(cfg.Rate), 1+int(cfg.Rate/10)),
		del:  make(chan struct{}, concurrentDeletes),
		keys: newKeys(),
		objs: newObjects(),
	}
	if err := r.first(ctx); err != nil {
		return nil, errors.Join(err, r.close())
	}
	ctx, r.cancel = context.WithCancel(ctx)
	if err := r.start(ctx); err != nil {
		r.cancel()
		r.wg.Wait()
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *Run) first(ctx context.Context) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lastTimeout)
	defer cancel()
	resp, err := c.Get(ctx, "key")
	if err != nil {
		return fmt.Errorf("load: first read: %w", err)
	}
	if resp.Header.GetRevision() != 1 && !r.cfg.Sparse {
		return fmt.Errorf("load: the server is not empty, its revision is %d", resp.Header.GetRevision())
	}
	return nil
}

func (r *Run) start(ctx context.Context) (err error) {
	c, err := r.client()
	if err != nil {
		return err
	}
	r.recorder = startRecorder(ctx, c)
	if r.serial, err = startSerialReader(ctx, r.endpoints()[0], r.prefix(), r.rand(1)); err != nil {
		return err
	}
	for i := range r.cfg.Clients {
		c, err := r.client()
		if err != nil {
			return err
		}
		loop := r.keyValueLoop
		if r.cfg.Profile == Kubernetes {
			loop = r.kubernetesLoop
		}
		l := &link{Run: r, c: c, redial: i%2 == 0}
		rnd := r.rand(1000 + i)
		r.wg.Go(func() { loop(ctx, l, rnd) })
	}
	for i := range r.cfg.Watchers {
		c, err := r.client()
		if err != nil {
			return err
		}
		loop := r.shortWatchLoop
		if i%2 == 1 {
			loop = r.longWatchLoop
		}
		rnd := r.rand(2000 + i)
		r.wg.Go(func() { loop(ctx, c, rnd) })
	}
	if r.cfg.Compact {
		c, err := r.client()
		if err != nil {
			return err
		}
		rnd := r.rand(2)
		r.wg.Go(func() { r.fail(r.compactLoop(ctx, c, rnd)) })
	}
	return nil
}

func (r *Run) client() (*client.RecordingClient, error) {
	return r.set.NewClient(r.endpoints())
}

// endpoints returns the endpoints of the next client.
func (r *Run) endpoints() []string {
	all := r.cfg.Endpoints
	n := int(r.clients.Add(1))
	first := n % len(all)
	if !r.cfg.Failover || n%4 < 2 {
		return all[first : first+1]
	}
	return slices.Concat(all[first:], all[:first])
}

// link is one client's connection. Half of the clients drop it after a failure and dial anew, as a restarted
// application would; the others leave it to clientv3, which waits a second or more when a server has gone.
type link struct {
	*Run
	c      *client.RecordingClient
	redial bool
}

// done counts a request's outcome and reports whether it was answered.
func (l *link) done(err error) bool {
	if err == nil {
		l.succeeded.Add(1)
		return true
	}
	l.failed.Add(1)
	if !l.redial {
		return false
	}
	c, err := l.client()
	if err != nil {
		l.fail(err)
		return false
	}
	// The connection is gone anyway, so an error of Close does not matter.
	_ = l.c.Close()
	l.c = c
	return false
}

func (r *Run) rand(stream int) *rand.Rand {
	return rand.New(rand.NewPCG(r.cfg.Seed, uint64(stream)))
}

// prefix is what all keys of the profile begin with.
func (r *Run) prefix() string {
	if r.cfg.Profile == Kubernetes {
		return objectPrefix
	}
	return keyPrefix
}

// Progress returns when n more requests of the profile's clients have been answered. It fails if none is answered for
// progressTimeout, or with Err.
func (r *Run) Progress(ctx context.Context, n int64) error {
	last, since := r.succeeded.Load(), time.Now()
	want := last + n
	ticker := time.NewTicker(progressPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := r.Err(); err != nil {
			return err
		}
		now := r.succeeded.Load()
		switch {
		case now >= want:
			return nil
		case now != last:
			last, since = now, time.Now()
		case time.Since(since) > progressTimeout:
			return fmt.Errorf("load: no request has been answered for %v", progressTimeout)
		}
	}
}

// Complete reports whether the traffic has by now met everything that the judges judge: enough requests, a serializable
// read that showed something, a resumed watch with events and a bookmark, a revocation if the profile has leases, and a
// compaction if the configuration has them.
func (r *Run) Complete() bool {
	return r.succeeded.Load() >= completeRequests && r.serial.shown.Load() && r.bookmarked.Load() &&
		(r.compacted.Load() || !r.cfg.Compact) && (r.revoked.Load() || r.cfg.Profile != KeyValue)
}

// GoesOn reports whether the traffic has to go on. It has to until the given time, and after that until it is Complete.
// A slow machine gets two more minutes for that; then the run's Coverage tells what is missing.
func (r *Run) GoesOn(until time.Time) bool {
	now := time.Now()
	return now.Before(until) || !r.Complete() && now.Before(until.Add(completeTimeout))
}

// Err is the first error that no injected fault can explain. It is the fault of the harness or of the server.
func (r *Run) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *Run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// Stop ends the traffic, makes a last write, waits until the Recorder has seen it, and returns what was recorded. The
// server must be running and left alone. Etcd's checks need the last write to be an acknowledged one.
func (r *Run) Stop(ctx context.Context) (h History, err error) {
	r.cancel()
	r.wg.Wait()
	ctx, cancel := context.WithTimeout(ctx, lastTimeout)
	defer cancel()
	if h.Last, err = r.last(ctx); err != nil {
		return h, errors.Join(err, r.close())
	}
	h.Events, err = r.recorder.wait(ctx, h.Last)
	err = errors.Join(err, r.close(), r.Err())
	h.Reports = r.set.Reports()
	h.Serializable = r.serial.reads
	h.Acked, h.Failed, h.Base = r.succeeded.Load(), r.failed.Load(), r.base
	return h, err
}

func (r *Run) last(ctx context.Context) (int64, error) {
	c, err := r.client()
	if err != nil {
		return 0, err
	}
	resp, err := c.Put(ctx, "tombstone", "true")
	if err != nil {
		return 0, fmt.Errorf("load: last write: %w", err)
	}
	return resp.Header.GetRevision(), nil
}

func (r *Run) close() error {
	if r.recorder != nil {
		r.recorder.close()
	}
	r.set.Close()
	if r.serial != nil {
		return r.serial.close()
	}
	return nil
}

// takeDelete reports whether one more delete or revocation may be under way; if so, call the returned function after
// it.
func (r *Run) takeDelete() (done func(), ok bool) {
	select {
	case r.del <- struct{}{}:
		return func() { <-r.del }, true
	default:
		return nil, false
	}
}

// between returns a random number in [lo, hi].
func between[T ~int | ~int64](rnd *rand.Rand, lo, hi T) T {
	return lo + T(rnd.Int64N(int64(hi-lo)+1))
}
