package pod

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/relay"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/wiring"
)

// leaveGrace is how long a pod may take at least to hand over what others can take, even without a --shutdown-delay.
const leaveGrace = 3 * time.Second

// Service is what a kind of pod adds to Serve.
type Service struct {
	// Parts say what HTTP endpoints show; Serve fills in what all pods have.
	Parts wiring.Parts
	// Leave is called when the pod begins to drain, during the shutdown delay: it hands over what others can take, until its
	// context ends. May be nil.
	Leave func(context.Context)
	// Drain ends the kind's own streams, so that clients resume elsewhere. May be nil.
	Drain func()
}

// Serve registers what the pod relays and serves until Drain or Close. The kind's own services must have been registered on
// GRPC. The pod is not ready before SetReady.
func (p *Pod) Serve(s Service) {
	var pools relay.Collector
	for k, pool := range p.pools {
		p.Relay(p.GRPC, k)
		pools = append(pools, pool)
	}
	s.Parts.Header, s.Parts.GRPC, s.Parts.Store = p.Header, p.GRPC, p.Store
	s.Parts.Engine = p.engineStats
	s.Parts.Ready = append(s.Parts.Ready, server.Check{Name: "serving", Run: p.ready.check})
	s.Parts.Collectors = append(s.Parts.Collectors, pools, wiring.StoreCollector{Usage: p.Store.Usage()})
	if c, ok := p.Bus.(prometheus.Collector); ok {
		s.Parts.Collectors = append(s.Parts.Collectors, c)
	}
	if c, ok := p.Engine.(prometheus.Collector); ok {
		s.Parts.Collectors = append(s.Parts.Collectors, c)
	}
	options := server.Options{
		GRPC: p.GRPC, HTTP: wiring.HTTP(p.Config.Config, s.Parts, p.Log), OwnReadiness: true, Log: p.Log,
		Drain: func(context.Context) {
			for _, pool := range pools {
				pool.Drain()
			}
			if s.Drain != nil {
				s.Drain()
			}
		},
	}
	p.run.begin(s.Leave, func(ctx context.Context) error {
		err := p.server.Serve(ctx, options)
		if err != nil {
			p.Fail(err)
		}
		return err
	})
}

// engineStats adds what the engine knows of its size.
func (p *Pod) engineStats(s *server.Stats) { s.DBSize, s.DBSizeInUse = p.Store.Sizes() }

// SetReady turns readiness on, or off for a reason. Once the pod drains it stays off.
func (p *Pod) SetReady(ready bool, reason string) { p.ready.set(ready, reason) }

// AwaitReady turns readiness on when ready is closed. what names what is waited for, for the error.
func (p *Pod) AwaitReady(ctx context.Context, ready <-chan struct{}, what string) error {
	select {
	case <-ready:
		p.SetReady(true, "")
		return nil
	case err := <-p.Failed():
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
	}
}

// Drain stops serving in order: readiness off, --shutdown-delay (cut short by ctx), streams end with Unavailable, requests
// finish. It returns when all has ended; the pod must still be closed. Later calls wait for the first.
func (p *Pod) Drain(ctx context.Context) {
	p.ready.drain()
	p.run.drain(ctx, p.Config.ShutdownDelay)
}

// running is the serving of a pod.
type running struct {
	leave func(context.Context)
	stop  context.CancelFunc // nil: not begun
	ended chan struct{}
	err   error // set before ended is closed
	once  sync.Once
}

func (r *running) begin(leave func(context.Context), serve func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	r.leave, r.stop, r.ended = leave, stop, make(chan struct{})
	go func() {
		defer close(r.ended)
		r.err = serve(ctx)
	}()
}

// drain waits, while what can be handed over is, and stops.
func (r *running) drain(ctx context.Context, delay time.Duration) {
	if r.stop == nil {
		return
	}
	r.once.Do(func() { r.leaveAndEnd(ctx, delay) })
}

func (r *running) leaveAndEnd(ctx context.Context, delay time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, max(delay, leaveGrace))
	defer cancel()
	noticed := time.After(delay)
	if r.leave != nil {
		r.leave(ctx)
	}
	select {
	case <-noticed:
	case <-ctx.Done():
	case <-r.ended:
	}
	_ = r.end() // Close returns it
}

// end stops at once and returns the error that serving has ended with.
func (r *running) end() error {
	if r.stop == nil {
		return nil
	}
	r.stop()
	<-r.ended
	return r.err
}
