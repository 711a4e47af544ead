package node

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/feed"
)

// startTailer campaigns for the place of the tailer.
func (n *Node) startTailer() error {
	candidate, err := election.New(n.Engine, election.Options{
		Key:    append(slices.Clone(n.Keyspace.Coordination), "tailer/"...),
		Holder: "watchhub " + n.Config.Name + " " + n.URL(),
		Logger: n.Log,
	})
	if err != nil {
		return err
	}
	n.Go("tailer", func(ctx context.Context) error { return candidate.Run(ctx, n.tail) })
	return nil
}

// tail is the tailer until its term ends.
func (n *Node) tail(ctx context.Context, t *election.Term) error {
	tailer := feed.NewTailer(n.Store, n.Bus, feed.TailerOptions{
		Keyspace: n.Subject, Ballot: t.Ballot(), From: n.follower.Position(), Logger: n.Log,
	})
	n.tailing.begin(tailer)
	defer n.tailing.end()
	return tailer.Run(ctx)
}

// Tailing reports whether this pod is the keyspace's tailer.
func (n *Node) Tailing() bool { return n.tailing.active.Load() }

// tailing is the part of this pod in publishing the log, for metrics. The numbers are those of its last term, zeros before the first.
type tailing struct {
	active atomic.Bool
	last   atomic.Pointer[feed.Tailer]
}

func (t *tailing) init(subject string) {
	t.last.Store(feed.NewTailer(nil, nil, feed.TailerOptions{Keyspace: subject})) // never run
}

func (t *tailing) begin(tailer *feed.Tailer) {
	t.last.Store(tailer)
	t.active.Store(true)
}

func (t *tailing) end() { t.active.Store(false) }

var descActive = prometheus.NewDesc("headwater_tailer_active", "1 while this pod publishes the log.", nil, nil)

// Describe implements prometheus.Collector.
func (t *tailing) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(t, ch) }

// Collect implements prometheus.Collector.
func (t *tailing) Collect(ch chan<- prometheus.Metric) {
	active := 0.0
	if t.active.Load() {
		active = 1
	}
	ch <- prometheus.MustNewConstMetric(descActive, prometheus.GaugeValue, active)
	t.last.Load().Collect(ch)
}
