package compose

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/feed"
)

// tailerTTL is how long the tailer's place stays taken after its pod has died. With another quarter of it, watchers
// wait for less than 2 s. Hubs that hear nothing from a tailer read the log themselves before that.
const tailerTTL = 1500 * time.Millisecond

// startTailer campaigns for the place of the tailer. The tailer begins at the follower's position.
func (k *Keyspace) startTailer(follower *feed.Follower) error {
	return k.campaign("tailer", tailerTTL, 0, func(ctx context.Context, t *election.Term) error {
		tailer := feed.NewTailer(k.Store, k.d.Bus, feed.TailerOptions{
			Keyspace: k.Subject, Ballot: t.Ballot(), From: follower.Position(), Logger: k.d.Log,
		})
		k.tailing.begin(tailer)
		defer k.tailing.end()
		return tailer.Run(ctx)
	})
}

// Tailing says whether this pod is the keyspace's tailer.
func (k *Keyspace) Tailing() bool { return k.tailing.active.Load() }

// tailing is this pod's part in publishing the log, for metrics. The numbers are those of its last term, and 0 before
// the first.
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
