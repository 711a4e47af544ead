package inproc

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/feed"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch"
)

// keyspace is its name on the bus of one server.
const keyspace = "inproc"

// fanOut brings the log to the current hub. If the store's lanes cannot feed the hub, because they answer out of order
// or because others write too, fanOut has a tailer, a bus and a follower, as a cluster has.
type fanOut struct {
	bus  *bus.Local // nil: the store feeds the hub
	stop context.CancelFunc
	wg   sync.WaitGroup
	errs [2]error // of tailer and follower; read after wg

	mu      sync.Mutex
	hub     *watch.Hub
	drained bool
}

var _ etcdapi.WatchHub = (*fanOut)(nil)

// newFanOut sets what the store needs in o.
func newFanOut(o *mvcc.Options, pipelined bool) *fanOut {
	f := &fanOut{stop: func() {}}
	if pipelined && o.Lanes <= 1 {
		f.hub = newHub(revlog.Codec{}) // it gets decoded entries
		o.Feed = f.hub.Apply
		return f
	}
	f.bus = bus.NewLocal()
	o.Committed = func() { f.bus.Nudge(keyspace) }
	return f
}

func newHub(codec revlog.Codec) *watch.Hub {
	return watch.New(watch.Options{ProgressInterval: progressInterval, Codec: codec})
}

// start begins with what the store holds. It returns when streams may be opened.
func (f *fanOut) start(ctx context.Context, store *mvcc.Store, logger *slog.Logger) error {
	if f.bus == nil {
		head, err := store.Head(ctx)
		if err == nil {
			f.hub.Start(store, head)
		}
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	follower := feed.NewFollower(store, f.bus, feed.FollowerOptions{
		Keyspace: keyspace, Logger: logger, Apply: func(e []revlog.Payload) { f.present().ApplyPayloads(e) },
		Reset: func(position int64) { f.replace(store, position) },
	})
	tailer := feed.NewTailer(store, f.bus, feed.TailerOptions{Keyspace: keyspace, Logger: logger})
	f.wg.Go(func() { f.errs[0] = tailer.Run(run) })
	f.wg.Go(func() { f.errs[1] = follower.Run(run) })
	select {
	case <-follower.Ready():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replace makes a new hub that begins after position. Streams of the old hub end, and their clients resume at the new
// one.
func (f *fanOut) replace(store *mvcc.Store, position int64) {
	hub := newHub(store.Codec())
	hub.Start(store, position)
	f.mu.Lock()
	old := f.hub
	f.hub = hub
	if f.drained {
		hub.Drain()
	}
	f.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

func (f *fanOut) present() *watch.Hub {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hub
}

// OpenOn opens a stream of the current hub.
func (f *fanOut) OpenOn(conn any) (*watch.Stream, error) { return f.present().OpenOn(conn) }

// drain ends all streams for good.
func (f *fanOut) drain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drained = true
	f.hub.Drain()
}

// close ends everything; the store must still be open.
func (f *fanOut) close() error {
	f.stop()
	f.wg.Wait()
	if hub := f.present(); hub != nil {
		hub.Close()
	}
	if f.bus == nil {
		return nil
	}
	return errors.Join(f.errs[0], f.errs[1], f.bus.Close())
}
