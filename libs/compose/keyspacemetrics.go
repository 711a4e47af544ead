package compose

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// many tells whether there are keyspaces beside the first, or clients who may not enter the first: these must not see
// what tells of all.
func (s *keyspaces) many() bool {
	if s.table == nil {
		return false
	}
	if !keyspace.IsOpen(s.door.Load().rule) {
		return true
	}
	n, read := s.table.Len()
	switch {
	case !read:
		return s.first.Store.Features().Has(mvcc.FeatureKeyspaces)
	case s.d.Kind.IsPod():
		return s.table.Shared() // a keyspace with pods of its own, like the first, does not count
	}
	return n > 0
}

// tallies are the tallies of keyspaces named in --metrics-keyspaces. They continue when a keyspace is closed and opened
// again. Other keyspaces get a new tally each time they are opened.
type tallies struct {
	mu    sync.Mutex
	names map[string]bool
	kept  map[uint64]*tally // by id; at most config.MetricsKeyspacesMax
}

func (t *tallies) keep(names []string) {
	t.names, t.kept = make(map[string]bool, len(names)), make(map[uint64]*tally)
	for _, n := range names {
		t.names[n] = true
	}
}

// of returns the tally of a keyspace that is being opened.
func (t *tallies) of(info keyspace.Info) *tally {
	if !t.names[info.Name] {
		return new(tally)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.kept[info.ID]
	switch {
	case kept != nil:
	case len(t.kept) < config.MetricsKeyspacesMax: // after renaming or deletion, a name may have had several keyspaces
		kept = new(tally)
		t.kept[info.ID] = kept
	default:
		kept = new(tally)
	}
	return kept
}

// Metrics of keyspaces.
var (
	descOpen     = prometheus.NewDesc("headwater_keyspaces_open", "Keyspaces that this process has open.", nil, nil)
	descKsOpen   = keyspaceDesc("open", "1 while this process has the keyspace open.")
	descKsBytes  = keyspaceDesc("live_bytes", "Bytes that can still be read: current and old versions, log, leases.")
	descKsKeys   = keyspaceDesc("keys", "Keys that are there now.")
	descKsReads  = keyspaceDesc("reads_total", "Calls that read, of those that were let in.")
	descKsWrites = keyspaceDesc("writes_total", "Calls that write, of those that were let in; a transaction is one.")
	descKsWatch  = keyspaceDesc("watches", "Open watches.")
	descKsStream = keyspaceDesc("streams", "Open streams.")
	descKsLeases = keyspaceDesc("leases", "Leases.")
	descKsRefuse = prometheus.NewDesc("headwater_keyspace_refused_total",
		"Requests that were refused by a limit, or by the alarm NOSPACE.", []string{"keyspace", "reason"}, nil)
)

func keyspaceDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("headwater_keyspace_"+name, help, []string{"keyspace"}, nil)
}

// keyspaceCollector collects the metrics of the keyspaces in --metrics-keyspaces. There are never more than
// config.MetricsKeyspacesMax.
type keyspaceCollector struct {
	s *keyspaces

	mu     sync.Mutex
	scores map[uint64]score // of open keyspaces, at the last scrape
}

// score is how busy a keyspace has been lately: what it has done since the last scrape, and half of its previous score.
type score struct{ calls, busy uint64 }

func newKeyspaceCollector(s *keyspaces) *keyspaceCollector { return &keyspaceCollector{s: s} }

// Describe implements prometheus.Collector.
func (c *keyspaceCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descOpen, descKsOpen, descKsBytes, descKsKeys, descKsReads, descKsWrites, descKsWatch, descKsStream,
		descKsLeases, descKsRefuse,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *keyspaceCollector) Collect(ch chan<- prometheus.Metric) {
	open := c.open()
	ch <- prometheus.MustNewConstMetric(descOpen, prometheus.GaugeValue, float64(len(open)))
	ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
	defer cancel()
	wanted := c.s.d.Config.MetricsKeyspaces
	for _, o := range c.busiest(open, wanted.Top) {
		c.collect(ctx, ch, o)
	}
	for _, name := range wanted.Names {
		i := slices.IndexFunc(open, func(o shownKeyspace) bool { return o.name == name })
		if i >= 0 {
			c.collect(ctx, ch, open[i])
			continue
		}
		c.collectClosed(ctx, ch, name)
	}
}

// shownKeyspace is an open keyspace.
type shownKeyspace struct {
	name string
	id   uint64 // 0: the first, which is in no table
	k    *Keyspace
}

// open returns the open keyspaces in the order of their ids. The caller may use them only briefly: one that is being
// closed answers errors.
func (c *keyspaceCollector) open() []shownKeyspace {
	s := c.s
	all := []shownKeyspace{{s.firstName(), s.first.Place.ID, s.first}}
	s.mu.Lock()
	for id, o := range s.open {
		select {
		case <-o.ready:
			if o.k != nil && o.ending == nil {
				all = append(all, shownKeyspace{o.info.Name, id, o.k})
			}
		default:
		}
	}
	s.mu.Unlock()
	for i := range all {
		if s.table == nil {
			break
		}
		if info, ok := s.table.ByID(all[i].id); ok { // it may have been renamed
			all[i].name = info.Name
		}
	}
	slices.SortFunc(all, func(a, b shownKeyspace) int { return cmp.Compare(a.id, b.id) })
	return all
}

// busiest returns the n open keyspaces that have done most lately.
func (c *keyspaceCollector) busiest(open []shownKeyspace, n int) []shownKeyspace {
	if n == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	scores := make(map[uint64]score, len(open))
	for _, o := range open {
		calls, old := o.k.tally.calls(), c.scores[o.id]
		if calls < old.calls {
			old = score{} // it was closed and opened since
		}
		scores[o.id] = score{calls, calls - old.calls + old.busy/2}
	}
	c.scores = scores
	top := slices.Clone(open)
	slices.SortStableFunc(
		top,
		func(a, b shownKeyspace) int { return cmp.Compare(scores[b.id].busy, scores[a.id].busy) },
	)
	return top[:min(n, len(top))]
}

// collect collects the metrics of an open keyspace.
func (c *keyspaceCollector) collect(ctx context.Context, ch chan<- prometheus.Metric, o shownKeyspace) {
	emit := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, append([]string{o.name}, labels...)...)
	}
	t := o.k.tally
	_, bytes := o.k.Store.Sizes()
	emit(descKsOpen, prometheus.GaugeValue, 1)
	emit(descKsBytes, prometheus.GaugeValue, float64(bytes))
	if n, known, err := o.k.Store.Keys(ctx); known && err == nil {
		emit(descKsKeys, prometheus.GaugeValue, float64(n))
	}
	emit(descKsReads, prometheus.CounterValue, float64(t.reads.Load()))
	emit(descKsWrites, prometheus.CounterValue, float64(t.writes.Load()))
	emit(descKsStream, prometheus.GaugeValue, float64(t.streams.Load()))
	for r := range refusals {
		emit(descKsRefuse, prometheus.CounterValue, float64(t.refused[r].Load()), r.String())
	}
	for _, p := range o.k.parts {
		if p.watch != nil {
			w := p.watch()
			emit(descKsRefuse, prometheus.CounterValue, float64(w.Refused), "too_many_watches")
			emit(descKsWatch, prometheus.GaugeValue, float64(w.Watchers))
		}
		if p.leases != nil {
			emit(descKsLeases, prometheus.GaugeValue, float64(p.leases()))
		}
	}
}

// collectClosed collects what is known of a keyspace that is not open, if there is one of that name. It does not open
// it.
func (c *keyspaceCollector) collectClosed(ctx context.Context, ch chan<- prometheus.Metric, name string) {
	if c.s.table == nil {
		return
	}
	info, err := c.s.table.ByName(ctx, name)
	if err != nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(descKsOpen, prometheus.GaugeValue, 0, name)
	if p, err := mvcc.Peek(ctx, c.s.d.Engine, info.Prefix); err == nil {
		ch <- prometheus.MustNewConstMetric(descKsBytes, prometheus.GaugeValue, float64(p.Live), name)
	}
	c.s.tallies.mu.Lock()
	t := c.s.tallies.kept[info.ID]
	c.s.tallies.mu.Unlock()
	if t == nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(descKsReads, prometheus.CounterValue, float64(t.reads.Load()), name)
	ch <- prometheus.MustNewConstMetric(descKsWrites, prometheus.CounterValue, float64(t.writes.Load()), name)
	for r := range refusals {
		n := float64(t.refused[r].Load())
		ch <- prometheus.MustNewConstMetric(descKsRefuse, prometheus.CounterValue, n, name, r.String())
	}
}
