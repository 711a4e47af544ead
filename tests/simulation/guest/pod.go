//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/tests/internal/memory"
	"github.com/headwaterdb/headwater/tests/internal/podfaults"
)

// pod is one pod's place: its name, and what is there now.
type pod struct {
	w    *world
	kind config.Kind
	name string

	*life      // nil while it is down
	clock      clock
	disk       *disk // nil: none
	generation int   // how often it was killed
	attempts   int   // starts
	busy       bool  // a fault is about it
}

// life is a pod from its start to its end.
type life struct {
	node *compose.Server
	gate *podfaults.Gate
	view *podfaults.View
	db   *lateStore
	quit chan struct{} // closed by close
	gone atomic.Bool   // killed: nobody hears it any more
}

// shared is the database as one pod has it: closing it does nothing to that of others.
type shared struct{ *memory.Store }

// Close implements engine.Store.
func (shared) Close() error { return nil }

func (l *life) close() error {
	close(l.quit)
	return errors.Join(l.node.Close(), l.view.Close())
}

// begin starts a pod with faults of its own.
func (p *pod) begin(ctx context.Context) (*life, error) {
	w := p.w
	p.attempts++
	r := w.rand(fmt.Sprintf("%s %d", p.name, p.attempts))
	o := w.days
	o.Seed = r.Uint64()
	l := &life{
		gate: podfaults.NewGate(), db: &lateStore{shared: shared{w.db}, rnd: r}, quit: make(chan struct{}),
	}
	l.view = podfaults.NewView(l.db, l.gate, o)
	parts := compose.Parts{
		Engine: podfaults.Whole{View: l.view}, Bus: podBus{w.sky, l.gate},
		Log: w.log.With("pod", p.name, "generation", p.generation), Now: p.clock.now,
	}
	p.disk.attach(&parts)
	var err error
	if l.node, err = compose.Start(ctx, p.kind, p.config(), parts); err != nil {
		return nil, err
	}
	go func() {
		select {
		case <-l.quit:
		case err := <-l.node.Failed():
			if !l.gone.Load() { // faults of the store and the bus are no reason to give up
				w.fail(fmt.Errorf("%s failed: %w", p.name, err))
			}
		}
	}()
	return l, nil
}

func (p *pod) config() config.Config {
	w := p.w
	c := config.Default(p.kind)
	c.Name = p.name
	c.ListenClientURLs = []string{"http://127.0.0.1:0"}
	if addr := p.adminAddr(); addr != "" {
		c.ListenAdminURLs = []string{"http://" + addr}
	}
	c.BcryptCost = bcryptCost
	c.PodAddress = w.links[[2]string{"peers", p.name}].addr()
	for _, addr := range w.addrs(outside, w.of(config.KV)) {
		c.AdvertiseClientURLs = append(c.AdvertiseClientURLs, "http://"+addr)
	}
	c.WatchProgressNotifyInterval, c.MaxConnectionAge = w.c.progress, w.c.connAge
	c.KeyspaceIdle, c.JoinCommits, c.AuthTokenTTL = w.c.idle, w.c.join, w.c.tokenTTL
	c.WatchHistoryBytes = w.c.history
	if p.disk != nil {
		c.DataDir = diskDir
	}
	if p.kind == config.KV && w.activate.Load() {
		c.ActivateFeatures = mvcc.FeaturesAll
	}
	c.FDBRoot, c.Keyspace, c.Lanes = engineRoot, keyspaceName, w.c.lanes
	c.KVEndpoints = w.addrs(p.name, w.of(config.KV))
	c.WatchHubEndpoints = w.addrs(p.name, w.of(config.WatchHub))
	c.LeaseKeeperEndpoints = w.addrs(p.name, w.of(config.LeaseKeeper))
	return c
}

// start puts a new life into the place, again and again until one comes up.
func (p *pod) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		l, err := p.begin(ctx)
		if err == nil {
			u, err := url.Parse(l.node.URL())
			if err != nil {
				return errors.Join(err, l.close())
			}
			p.life = l
			for _, from := range append(p.w.names(), outside, "peers") {
				if k := p.w.links[[2]string{from, p.name}]; k != nil {
					k.attach(u.Host, l.gate)
				}
			}
			p.w.tracef(p.name, "serves, life %d", p.attempts)
			return nil
		}
		p.w.tracef(p.name, "does not start: %v", err)
		select {
		case <-time.After(startPause):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
}

// leave takes the pod away from its addresses.
func (p *pod) leave() *life {
	l := p.life
	p.life = nil
	for _, from := range append(p.w.names(), outside, "peers") {
		if k := p.w.links[[2]string{from, p.name}]; k != nil {
			k.detach()
		}
	}
	return l
}

// kill takes the pod away as the end of its process does.
func (p *pod) kill() {
	p.end(p.leave())
	p.generation++
}

// end is what becomes of a life whose process ends: nobody notices.
func (p *pod) end(l *life) {
	l.gone.Store(true)
	l.view.Kill()
	l.gate.Kill()
	p.disk.crash()
	go func() { _ = l.close() }()
}

// drain stops the pod in order, as SIGTERM does.
func (p *pod) drain(ctx context.Context) error {
	p.life.node.Drain(ctx)
	return p.leave().close()
}
