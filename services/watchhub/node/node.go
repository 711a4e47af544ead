package node

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/feed"
	"github.com/headwaterdb/headwater/libs/pod"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/watch/history"
	"github.com/headwaterdb/headwater/libs/wiring"
)

// historyDir is the cache's directory within the data directory.
const historyDir = "history"

// Node is a watchhub pod that serves.
type Node struct {
	*pod.Pod
	watched  wiring.WatchLatency
	gate     gate // holds the hub, which the follower's goroutine makes and replaces
	follower *feed.Follower
	tailing  tailing

	// The follower's goroutine's own.
	hub   *watch.Hub
	cache *history.Cache // in front of hub's log; nil: none
	ctx   context.Context
}

// Start opens a watchhub pod and serves. It returns when the pod is ready. The caller must Close the Node.
func Start(ctx context.Context, c pod.Config, d pod.Deps) (*Node, error) {
	return pod.Start(ctx, pod.WatchHub, c, d, open)
}

func open(ctx context.Context, p *pod.Pod) (*Node, error) {
	n := newNode(p)
	if _, err := p.OpenAlarms(ctx); err != nil {
		return nil, err
	}
	if p.Bus != nil {
		if err := n.startTailer(); err != nil {
			return nil, err
		}
	}
	p.Serve(pod.Service{
		Parts: wiring.Parts{Watch: n.stats, Collectors: []prometheus.Collector{n.watched, n.follower, &n.tailing}},
		Drain: n.gate.close,
	})
	p.Go("feed", n.follow)
	return n, p.AwaitReady(ctx, n.follower.Ready(), "the recent part of the log")
}

// newNode makes the pod's own parts, which do nothing yet.
func newNode(p *pod.Pod) *Node {
	n := &Node{Pod: p, watched: wiring.NewWatchLatency()}
	n.tailing.init(p.Subject)
	p.OnClose(n.closeHub)
	n.follower = feed.NewFollower(p.Store, p.Bus, feed.FollowerOptions{
		Keyspace: p.Subject, Reset: n.reset, Apply: n.apply, Stall: n.stall, Logger: p.Log,
	})
	etcdapi.RegisterWatch(p.GRPC, &n.gate, p.Header, etcdapi.WatchOptions{MaxRequestBytes: p.Config.MaxRequestBytes})
	return n
}

// follow runs the follower until ctx ends.
func (n *Node) follow(ctx context.Context) error {
	n.ctx = ctx
	return n.follower.Run(ctx)
}

// reset begins a new hub after position. What streams of the one before have missed they get when their clients resume here.
func (n *Node) reset(position int64) {
	if err := n.closeHub(); err != nil {
		n.Log.Warn("watch history", "error", err)
	}
	var log watch.Log = n.Store
	if n.Config.DataDir != "" {
		if cache := n.openCache(position); cache != nil {
			n.cache = cache
			log = cache.Over(n.Store)
		}
	}
	hub := watch.New(wiring.Watch(n.Config.Config, n.watched, n.Log))
	hub.Start(log, position)
	n.hub = hub
	n.gate.replace(hub)
}

// openCache opens the cache of history. Without one the log is read, so nothing depends on it.
func (n *Node) openCache(position int64) *history.Cache {
	cache, err := history.Open(filepath.Join(n.Config.DataDir, historyDir), history.Options{
		Identity: binary.BigEndian.AppendUint64(nil, n.Header.ClusterID), Log: n.Log,
	})
	if err != nil {
		n.Log.Warn("no watch history on disk", "error", err)
		return nil
	}
	if err := cache.Start(n.ctx, n.Store, position); err != nil {
		n.Log.Warn("no watch history on disk", "error", errors.Join(err, cache.Close()))
		return nil
	}
	return cache
}

// apply gets every entry of the log after the position of the last reset.
func (n *Node) apply(entries []revlog.Entry) {
	n.hub.Apply(entries)
	if n.cache != nil {
		n.cache.Append(entries)
	}
}

// stall ends all streams while the hub is behind.
func (n *Node) stall(stalled bool) {
	if stalled {
		n.SetReady(false, "the hub is behind the log")
		n.gate.close()
		return
	}
	n.gate.open()
	n.SetReady(true, "")
}

// closeHub closes hub and cache, if there are any.
func (n *Node) closeHub() (err error) {
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
func (n *Node) stats() watch.Stats {
	if hub := n.gate.present(); hub != nil {
		return hub.Stats()
	}
	return watch.Stats{}
}
