package shards

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/lease"
)

// shard is one shard as this pod sees it.
type shard struct {
	s         *Shards
	id        int
	candidate *election.Candidate

	keeper  atomic.Pointer[lease.Keeper] // while the shard is kept here
	working atomic.Bool                  // while Options.work is done for it here

	mu       sync.Mutex
	owner    string          // its address; "": nobody
	had      bool            // it has had an owner
	epoch    context.Context // ends when keeper or owner change
	endEpoch context.CancelFunc
}

func (h *shard) init(s *Shards, id int, key []byte) (err error) {
	h.s, h.id = s, id
	h.epoch, h.endEpoch = context.WithCancel(context.Background())
	h.candidate, err = election.New(s.eng, election.Options{
		Key:    key,
		Holder: s.o.Self,
		TTL:    s.o.TTL,
		Eligible: func() bool {
			p, _ := s.current()
			return p.mine.has(id)
		},
		Observed: h.observed,
		Group:    s.group,
		Now:      s.o.Now,
		Logger:   s.o.Logger,
	})
	return err
}

// change calls f, after which the shard's owner or keeper may be another, and tells everybody.
func (h *shard) change(f func()) {
	h.mu.Lock()
	f()
	h.endEpoch()
	h.epoch, h.endEpoch = context.WithCancel(context.Background())
	h.mu.Unlock()
	h.s.announce()
}

// observed is told who has the shard.
func (h *shard) observed(l election.LeaderInfo) {
	h.change(func() {
		h.owner = l.Holder
		h.had = h.had || l.Holder != ""
	})
	h.s.ownersChanged()
}

// state returns who has the shard, the keeper if it is this pod, and a context that ends when that changes.
func (h *shard) state() (k *lease.Keeper, owner string, epoch context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.keeper.Load(), h.owner, h.epoch
}

func (h *shard) newKeeper(holds func() bool) (*lease.Keeper, error) {
	o := h.s.o.Keeper
	o.Shard, o.Holds = h.id, holds
	o.Owns = func(id int64) bool { return Of(id) == h.id }
	return lease.New(&h.s.store, o)
}

// lead keeps the shard until the term ends or another pod is to have it. A keeper that ends before, since a claim by
// a pod that was deposed came in late, is followed by the next.
func (h *shard) lead(ctx context.Context, t *election.Term) error {
	if h.s.o.work != nil {
		return h.work(ctx, t)
	}
	for ctx.Err() == nil && !h.yields() {
		k, err := h.newKeeper(t.Holds)
		if err != nil {
			return err
		}
		err = h.keep(ctx, k)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if !errors.Is(err, lease.ErrNotOwner) {
			h.s.o.Logger.Error("lease keeper ended", "shard", h.id, "error", err)
		}
		_ = retry.Sleep(ctx, h.s.o.TTL/retryDivisor)
	}
	return nil
}

func (h *shard) yields() bool {
	p, _ := h.s.current()
	return p.yields.has(h.id)
}

// keep runs one keeper until it ends, ctx ends, or the shard is to be handed over.
func (h *shard) keep(ctx context.Context, k *lease.Keeper) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	h.change(func() { h.keeper.Store(k) })
	defer h.change(func() { h.keeper.Store(nil) })
	return h.attend(cancel, ended)
}

// attend waits for the work on a shard to end, and has it cancelled when the shard is to go to another pod.
func (h *shard) attend(cancel context.CancelFunc, ended <-chan error) error {
	for {
		p, changed := h.s.current()
		if p.yields.has(h.id) {
			cancel()
			return <-ended
		}
		select {
		case <-changed:
		case err := <-ended:
			return err
		}
	}
}
