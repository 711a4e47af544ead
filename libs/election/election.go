package election

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// Defaults and limits.
const (
	// DefaultTTL is how long challengers wait for a leader that does not renew.
	DefaultTTL = time.Second
	// TTLMin is the shortest time to live.
	TTLMin = 10 * time.Millisecond
	// renewDivisor sets the default of Options.Renew: TTL/renewDivisor. With the margin it leaves room for two
	// attempts that fail.
	renewDivisor = 4
	// pollDivisor sets how often Options.Eligible is called: at least once per TTL/pollDivisor.
	pollDivisor = 2
	// retryMin and TTL/retryDivisor bound the pause after a failed attempt. The pause doubles in between.
	retryMin     = time.Millisecond
	retryDivisor = 8
	// restDivisor sets the pause before a candidate claims again after it has given up the lead by itself:
	// TTL/restDivisor. Other candidates come first.
	restDivisor = 8
)

// Options configure a Candidate. Key and Holder are required; the zero value of the others means their default.
type Options struct {
	Key    []byte // prefix of the election's rows
	Holder string // name of this candidate, for people; at most HolderMax bytes
	Value  []byte // shown by Leader, such as an address; at most ValueMax bytes

	// TTL is how long a challenger must see no renewal by this candidate before it claims. It is stored in the row, so
	// candidates need not agree on it. Default DefaultTTL.
	TTL time.Duration
	// Renew is the time between two renewals, and between two looks of a challenger. Default TTL/4.
	Renew time.Duration
	// Group is the group whose transactions this candidate shares. Key must begin with the group's prefix. Default: a
	// group of its own.
	Group *Group
	// Beat is that of a candidate without a Group: see GroupOptions.Beat.
	Beat func()

	// Eligible says whether the candidate may claim now. A candidate that may not still observes, so that it need not
	// wait once it may; Nudge reports that. It is called from Run's goroutine. Default: always.
	Eligible func() bool
	// Observed is called with the leader whenever that changes: another candidate, this one, or nobody. It is called
	// from Run's goroutine and must be quick.
	Observed func(LeaderInfo)

	// Now reads the candidate's clock, which must be monotonic. Default: time.Now.
	Now    func() time.Time
	Logger *slog.Logger // default: none
}

func (o *Options) ensureDefaults() {
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.Renew == 0 {
		o.Renew = o.TTL / renewDivisor
	}
	if o.Eligible == nil {
		o.Eligible = func() bool { return true }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observed == nil {
		o.Observed = func(LeaderInfo) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *Options) validate() error {
	switch {
	case len(o.Key) == 0:
		return errors.New("election: no key")
	case o.Holder == "" || len(o.Holder) > HolderMax:
		return fmt.Errorf("election: holder of %d bytes not in 1…%d", len(o.Holder), HolderMax)
	case len(o.Value) > ValueMax:
		return fmt.Errorf("election: value of %d bytes, at most %d", len(o.Value), ValueMax)
	case o.TTL < TTLMin:
		return fmt.Errorf("election: TTL %v below %v", o.TTL, TTLMin)
	case o.Group != nil && !bytes.HasPrefix(o.Key, o.Group.o.Prefix):
		return fmt.Errorf("election: the key is not under the group's prefix")
	case o.Renew <= 0 || o.Renew > o.TTL/2:
		return fmt.Errorf("election: renewal every %v with a TTL of %v; at most half of it", o.Renew, o.TTL)
	}
	return nil
}

// Candidate takes part in one election.
type Candidate struct {
	store engine.Store
	o     Options
	keys  keys
	start time.Time
	nudge chan struct{}
	group *Group

	// Used by Run's goroutine only.
	watch    observer
	needs    uint64     // sightings of the group up to this one are too old
	looked   uint64     // the sighting that was looked at last
	resting  instant    // no claim before
	told     LeaderInfo // what Observed was told last
	toldOnce bool
}

// New returns a candidate. Run starts it.
func New(store engine.Store, o Options) (*Candidate, error) {
	o.ensureDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := &Candidate{
		store: store,
		o:     o,
		keys:  keysOf(o.Key),
		start: o.Now(),
		nudge: make(chan struct{}, 1),
		group: o.Group,
	}
	if c.group == nil {
		c.group = alone(c)
	}
	c.group.add(c)
	return c, nil
}

// Nudge makes Run ask Options.Eligible again at once. It may be called from any goroutine.
func (c *Candidate) Nudge() {
	select {
	case c.nudge <- struct{}{}:
	default:
	}
}

// now reads the candidate's clock, which is monotonic.
func (c *Candidate) now() instant { return c.o.Now().Sub(c.start) }

// Run campaigns until ctx ends, and then returns nil. Each time the candidate is elected, Run calls lead. The ctx of
// lead ends when the term is lost or Run's ctx ends. The term is renewed until lead returns and is then released, so
// that another candidate need not wait. After lead has returned nil, or its ctx has ended, the campaign goes on. Any
// other error of lead ends Run, which returns it. Other errors: ErrCorrupt, engine.ErrClosed. If the store is
// unavailable, Run waits. Only one call of Run may be active.
func (c *Candidate) Run(ctx context.Context, lead func(ctx context.Context, t *Term) error) error {
	defer c.begin(ctx)()
	for {
		t, err := c.campaign(ctx)
		if err != nil {
			return runErr(ctx, err)
		}
		if err := c.serve(ctx, t, lead); err != nil {
			return runErr(ctx, err)
		}
		c.resting = c.now() + c.o.TTL/restDivisor
	}
}

// begin starts what runs beside a campaign and a term; end stops it.
func (c *Candidate) begin(ctx context.Context) (end func()) {
	var group, watching sync.WaitGroup
	// The group has to outlive ctx, because terms are renewed until their lead has returned.
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	if c.o.Group == nil {
		group.Go(func() { _ = c.group.Run(renewing) }) // campaign meets the error too
	}
	watchCtx, unwatch := context.WithCancel(ctx)
	watching.Go(func() { c.watchBallot(watchCtx) })
	return func() {
		unwatch()
		watching.Wait()
		stop()
		group.Wait()
	}
}

func runErr(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// fatal says whether waiting cannot help against err.
func fatal(err error) bool {
	class := engine.ClassOf(err)
	return class == engine.Closed || class == engine.TooLarge || errors.Is(err, ErrCorrupt)
}

// retries returns the pauses after failures for a time to live.
func retries(ttl time.Duration) retry.Policy {
	return retry.Policy{Min: retryMin, Max: max(ttl/retryDivisor, retryMin)}
}

// pause waits after the n-th failure in a row, n >= 0.
func (c *Candidate) pause(ctx context.Context, n int) {
	_ = retries(c.o.TTL).Wait(ctx, n) // who waits looks at ctx afterwards
}

// tell calls Observed if the leader has changed.
func (c *Candidate) tell(l LeaderInfo) {
	if c.toldOnce && c.told.Ballot == l.Ballot && c.told.Holder == l.Holder {
		return
	}
	c.told, c.toldOnce = l, true
	c.o.Observed(l)
}

func newToken() (t [tokenLen]byte) {
	rand.Read(t[:])
	return t
}
