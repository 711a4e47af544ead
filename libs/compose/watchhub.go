package compose

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/feed"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch"
)

// hubPart serves watches where all writes are this process's: the store feeds the hub.
func hubPart(k *Keyspace) part {
	latency := newWatchLatency()
	o := k.hubOptions(latency)
	o.StreamBytes = watch.DefaultStreamBytes // values are a page of this machine's memory or disk away
	hub := watch.New(o)
	return part{
		want: func(o *mvcc.Options) {
			o.Feed, o.Followed = hub.Apply, hub.Position
			o.AuthChanged = func(number uint64) { k.recheck(k.background, hub, number) }
		},
		open: func(context.Context) error {
			k.guard.OnChange(hub.Recheck)
			hub.Start(holdingStore{k.Store}, k.opened)
			k.OnClose(func() error { hub.Close(); return nil }) // before the store, which it reads from
			return nil
		},
		register:   k.watchOf(hub),
		drain:      hub.Drain,
		watch:      hub.Stats,
		collectors: func() []prometheus.Collector { return []prometheus.Collector{latency} },
	}
}

// holdingStore is a store of this process as a watch.Holder.
type holdingStore struct{ *mvcc.Store }

// HoldValues implements watch.Holder.
func (s holdingStore) HoldValues(ctx context.Context) (watch.ValueReader, func(), error) {
	h, err := s.Store.HoldValues(ctx)
	if err != nil {
		return nil, nil, err
	}
	return h, h.Release, nil
}

// recheck has a hub's watches be allowed anew by users and roles of at least a number, before it gets the entries that
// were made under them. Where those cannot be read nobody is sent anything: all streams end.
func (k *Keyspace) recheck(ctx context.Context, hub *watch.Hub, number uint64) {
	if _, err := k.guard.Refresh(ctx, number); err != nil {
		k.d.Log.Error("users and roles cannot be read, watches end", "error", err)
		hub.Interrupt()
		return
	}
	hub.Recheck()
}

// watchOf registers the Watch service of a hub.
func (k *Keyspace) watchOf(hub etcdapi.WatchHub) func(grpc.ServiceRegistrar) {
	return func(r grpc.ServiceRegistrar) {
		o := etcdapi.WatchOptions{
			MaxRequestBytes: k.d.Config.MaxRequestBytes,
			Guard:           k.guard,
			Sent:            k.d.watchSends.Sent,
		}
		o.Turn = k.shares.streams
		if k.d.tracer != nil {
			o.Delivered = k.d.tracer.Delivered
		}
		etcdapi.RegisterWatch(r, hub, k.Header, o)
	}
}

// hubOptions are the options of a hub. sent is told of latencies.
func (k *Keyspace) hubOptions(sent watchLatency) watch.Options {
	c := k.d.Config
	o := watch.Options{
		RingBytes:         int(c.WatchHistoryBytes),
		ProgressInterval:  c.WatchProgressNotifyInterval,
		MaxStreams:        c.MaxWatchStreams,
		MaxWatches:        c.MaxWatches,
		MaxStreamsPerConn: c.MaxWatchStreamsPerConn,
		MaxWatchesPerConn: c.MaxWatchesPerConn,
		OnSent:            sent.Observe,
		Log:               k.d.Log,
	}
	o.Passes = k.shares.passes
	if n := int(min(k.limits.GetWatches(), math.MaxInt32)); n > 0 {
		o.MaxWatches = n
	}
	if k.ofTable && (o.RingBytes == 0 || o.RingBytes > keyspaceHistory) {
		o.RingBytes = keyspaceHistory
	}
	return o
}

// historyDir is the cache's directory within the data directory.
const historyDir = "history"

// History is a cache of the recent part of the log, on the disk of a watchhub pod. Nothing rests on it.
type History interface {
	// Start fills the cache from log up to position.
	Start(ctx context.Context, log watch.Log, position int64) error
	// Append gets the entries after position, in order.
	Append([]revlog.Payload)
	// Over returns log with the cache in front.
	Over(log watch.Log) watch.Log
	Close() error
}

// followingHub serves watches where others write: it follows the log.
//
//	log ─(tailer, on one pod)→ bus ─→ feed.Follower ─→ History, watch.Hub ─→ streams
//	 └───────────(gaps, start, history)────┘
type followingHub struct {
	k        *Keyspace
	latency  watchLatency
	gate     gate // holds the hub, which the follower's goroutine makes and replaces
	follower *feed.Follower

	// The follower's goroutine's own.
	hub   *watch.Hub
	cache History // in front of hub's log; nil: none
	ctx   context.Context
}

// followingHubPart follows the log, and campaigns for the place of the tailer where there is a bus.
func followingHubPart(k *Keyspace) part {
	return newFollowingHub(k).part()
}

func newFollowingHub(k *Keyspace) *followingHub {
	return &followingHub{k: k, latency: newWatchLatency()}
}

func (n *followingHub) part() part {
	k := n.k
	return part{
		open: func(context.Context) error {
			if k.ofTable {
				return n.openOfMany()
			}
			n.open()
			if k.d.Bus == nil {
				return nil
			}
			return k.startTailer(n.follower)
		},
		register: func(r grpc.ServiceRegistrar) { k.watchOf(&n.gate)(r) },
		begin: func(ctx context.Context) error {
			k.Go("feed", n.follow)
			return k.d.await(ctx, n.follower.Ready(), "the recent part of the log")
		},
		drain: n.gate.drain,
		watch: n.stats,
		collectors: func() []prometheus.Collector {
			return []prometheus.Collector{n.latency, n.follower, &k.tailing}
		},
	}
}

// open makes what follows the log, which does nothing yet.
func (n *followingHub) open() {
	k := n.k
	k.tailing.init(k.Subject)
	k.guard.OnChange(n.changed)
	k.OnClose(n.closeHub)
	n.follower = feed.NewFollower(k.Store, k.d.Bus, feed.FollowerOptions{
		Keyspace: k.Subject, Reset: n.reset, Apply: n.apply, Stall: n.stall, Auth: n.recheck, Logger: k.d.Log,
		Pulse: &k.d.pulse,
	})
}

// follow runs the follower until ctx ends.
func (n *followingHub) follow(ctx context.Context) error {
	n.ctx = ctx
	return n.follower.Run(ctx)
}

// reset begins a new hub after position. What streams of the one before have missed they get when their clients
// resume here.
func (n *followingHub) reset(position int64) {
	k := n.k
	if err := n.closeHub(); err != nil {
		k.d.Log.Warn("watch history", "error", err)
	}
	var log watch.Log = k.Store
	if cache := n.openCache(position); cache != nil {
		n.cache = cache
		log = cache.Over(k.Store)
	}
	o := k.hubOptions(n.latency)
	o.Codec = k.Store.Codec()
	hub := watch.New(o)
	hub.Start(log, position)
	n.hub = hub
	n.gate.replace(hub)
}

// openCache opens the cache of history, nil if there is none. Without one the log is read, so nothing depends on it.
func (n *followingHub) openCache(position int64) History {
	d := n.k.d
	if d.openHistory == nil || d.Config.DataDir == "" || n.k.ofTable {
		return nil
	}
	identity := binary.BigEndian.AppendUint64(nil, n.k.Header.ClusterID)
	cache, err := d.openHistory(filepath.Join(d.Config.DataDir, historyDir), identity, n.k.Store.Codec(), d.Log)
	if err != nil {
		d.Log.Warn("no watch history on disk", "error", err)
		return nil
	}
	if err := cache.Start(n.ctx, n.k.Store, position); err != nil {
		d.Log.Warn("no watch history on disk", "error", errors.Join(err, cache.Close()))
		return nil
	}
	return cache
}

// apply gets every entry of the log after the position of the last reset.
func (n *followingHub) apply(entries []revlog.Payload) {
	n.hub.ApplyPayloads(entries)
	if n.cache != nil {
		n.cache.Append(entries)
	}
}

// changed is called when the guard has learned of other users and roles.
func (n *followingHub) changed() {
	if hub := n.gate.present(); hub != nil {
		hub.Recheck()
	}
}

// recheck is called before apply with the first entries that were made under newer users and roles. It returns when the
// hub goes by these, however long they cannot be read.
func (n *followingHub) recheck(number uint64) (known uint64) {
	for tries := 0; ; tries++ {
		known, err := n.k.guard.Refresh(n.ctx, number)
		if err == nil {
			n.hub.Recheck()
			return known
		}
		n.k.d.Log.Warn("users and roles cannot be read, watches wait; will retry", "error", err)
		if recheckPauses.Wait(n.ctx, tries) != nil {
			return 0 // nothing is applied any more either
		}
	}
}

// recheckPauses are those between attempts to read users and roles.
var recheckPauses = retry.Policy{Min: 10 * time.Millisecond, Max: time.Second}

// stall ends all streams while the hub is behind. A pod that is stopping stays shut and not ready whatever its hub
// does.
func (n *followingHub) stall(stalled bool) {
	if n.k.ofTable { // says nothing of the others
		n.gate.stall(stalled)
		return
	}
	if stalled {
		n.k.d.SetReady(false, "the hub is behind the log")
	}
	n.gate.stall(stalled)
	if !stalled {
		n.k.d.SetReady(true, "")
	}
}

// closeHub closes hub and cache, if there are any.
func (n *followingHub) closeHub() (err error) {
	if hub := n.gate.replace(nil); hub != nil {
		hub.Close() // it reads from the cache
	}
	if n.cache != nil {
		err = n.cache.Close()
		n.cache = nil
	}
	return err
}

// stats are those of the present hub; the counters begin anew with each.
func (n *followingHub) stats() watch.Stats {
	if hub := n.gate.present(); hub != nil {
		return hub.Stats()
	}
	return watch.Stats{}
}
