package shards

import (
	"context"
	"log/slog"
	"time"

	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/engine"
)

// Work is what a pod does for a shard that it owns. It returns when ctx ends, because the term t is over or another pod
// is to own the shard. An error ends Places.Run.
type Work func(ctx context.Context, shard int, t *election.Term) error

// PlacesOptions configure Places. Self and Work are required; the zero value of the others means their default.
type PlacesOptions struct {
	Self   string        // the name or address of this pod, which no other has
	TTL    time.Duration // as Options.TTL
	Work   Work
	Now    func() time.Time // as Options.Now
	Logger *slog.Logger
}

// Places spreads Count shards of some work over several processes (pods), as Shards does with the leases of one
// keyspace. Its methods but Run may be called from any goroutine at any time.
type Places struct {
	s *Shards
}

// NewPlaces returns Places whose rows have the prefix prefix. It does nothing before Run.
func NewPlaces(eng engine.Store, prefix []byte, o PlacesOptions) (*Places, error) {
	s, err := New(nil, eng, prefix, Options{Self: o.Self, TTL: o.TTL, Now: o.Now, Logger: o.Logger, work: o.Work})
	if err != nil {
		return nil, err
	}
	return &Places{s}, nil
}

// Run takes part until ctx ends. Then it gives up its shards and returns nil. Errors: as Shards.Run, and those of Work.
// It may be called once.
func (p *Places) Run(ctx context.Context) error { return p.s.Run(ctx) }

// Drain is Shards.Drain.
func (p *Places) Drain(ctx context.Context) error { return p.s.Drain(ctx) }

// Ready is closed when every shard has had an owner, here or elsewhere.
func (p *Places) Ready() <-chan struct{} { return p.s.ready }

// Owned returns the shards whose work is done here.
func (p *Places) Owned() []int { return p.s.Owned() }

// Owner tells who owns a shard.
type Owner struct {
	Here    bool            // this pod
	Address string          // else PlacesOptions.Self of the pod that has; "": nobody
	Epoch   context.Context // ends when this may be outdated
}

// Owner returns who owns a shard.
func (p *Places) Owner(shard int) Owner {
	h := &p.s.shards[shard]
	_, owner, epoch := h.state()
	o := Owner{Here: h.here(), Epoch: epoch}
	if owner != p.s.o.Self {
		o.Address = owner
	}
	return o
}

// here reports whether the shard is this pod's.
func (h *shard) here() bool { return h.keeper.Load() != nil || h.working.Load() }

// work does the shard's work until the term ends or another pod is to have the shard.
func (h *shard) work(ctx context.Context, t *election.Term) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if h.yields() {
		return nil
	}
	ended := make(chan error, 1)
	go func() { ended <- h.s.o.work(ctx, h.id, t) }()
	h.change(func() { h.working.Store(true) })
	defer h.change(func() { h.working.Store(false) })
	return h.attend(cancel, ended)
}
