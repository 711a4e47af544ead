package compose

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/gateway"
	"github.com/headwaterdb/headwater/libs/server"
)

// leaveGrace is the least time that a pod gets to hand over what others can take, even without --shutdown-delay.
const leaveGrace = 3 * time.Second

// serve serves what has been registered, until Drain or Close. A pod is not ready before SetReady.
func (d *Deployment) serve(all *keyspaces) error {
	front, err := d.newGateway()
	if err != nil {
		return err
	}
	options := server.Options{
		GRPC: d.GRPC, HTTP: all.shown, OwnReadiness: true, Log: d.Log,
		Drain: func(context.Context) {
			for _, pool := range d.pools {
				pool.Drain()
			}
			all.drain()
		},
	}
	if front != nil {
		options.HTTP.Gateway = front
		if d.Config.ClientTLS.ClientCertAuth {
			options.HTTP.RefuseGateway = d.refuseCommonName
		}
	}
	d.run.begin(all.leave, func(ctx context.Context) error {
		err := d.server.Serve(ctx, options)
		if front != nil {
			front.Close()
		}
		if err != nil {
			d.Fail(err)
		}
		return err
	})
	return nil
}

// newGateway returns the JSON gateway to the services; nil: there is none.
func (d *Deployment) newGateway() (*gateway.Gateway, error) {
	local := d.GRPC.Local()
	if local == nil || !d.Config.EnableGRPCGateway {
		return nil, nil
	}
	return gateway.New(gateway.Options{
		Conn: local, MessageBytesMax: d.GRPC.MessageBytesMax(), AnswerBytes: d.Config.MaxAnswerBytes,
		Metadata: []string{KeyspaceMetadata}, Tenant: d.all.tenant, Shared: d.many,
	})
}

// leave hands over what others can take, until ctx ends.
func (k *Keyspace) leave(ctx context.Context) {
	for _, p := range k.parts {
		if p.leave != nil {
			p.leave(ctx)
		}
	}
}

// SetReady turns readiness on, or off with a reason. Once the pod drains or has failed, readiness stays off.
func (d *Deployment) SetReady(ready bool, reason string) { d.ready.set(ready, reason) }

// await waits until the channel of a part is closed. what names the part, for the error.
func (d *Deployment) await(ctx context.Context, ready <-chan struct{}, what string) error {
	select {
	case <-ready:
		return nil
	case err := <-d.Failed():
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
	}
}

// Drain stops serving in order: readiness off, --shutdown-delay (cut short by ctx), streams end with Unavailable,
// requests finish. It returns when everything has ended. The pod must still be closed. Later calls wait for the first.
func (d *Deployment) Drain(ctx context.Context) {
	d.ready.drain()
	d.run.drain(ctx, d.Config.ShutdownDelay)
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

// drain waits while things are handed over, and then stops.
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

// end stops at once, and returns the error with which serving has ended.
func (r *running) end() error {
	if r.stop == nil {
		return nil
	}
	r.stop()
	<-r.ended
	return r.err
}
