package lease

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// ttlBuckets is the number of buckets of the TTL histogram: 1 s doubled up to 2^23 s, as in etcd (lease/metrics.go).
const ttlBuckets = 24

// counters count since the keeper was made. Renewals are counted in the shards of the table.
type counters struct {
	grantedTotal, revokedTotal, expiredTotal, retriesTotal atomic.Uint64

	ttlSum atomic.Uint64
	ttl    [ttlBuckets + 1]atomic.Uint64 // ttl[i]: above 2^(i-1) and not above 2^i; the last: above all
}

// Meter counts what keepers do: one that is alone, or several, such as those that keep the shards of a process one
// after another. Its methods may be called from any goroutine.
type Meter struct {
	counters

	mu      sync.Mutex
	tables  map[*table]struct{} // of the keepers that run
	renewed uint64              // by those that have ended
}

// NewMeter returns a Meter for Options.Meter.
func NewMeter() *Meter { return &Meter{tables: map[*table]struct{}{}} }

func (m *Meter) add(t *table) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tables[t] = struct{}{}
}

func (m *Meter) remove(t *table) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tables, t)
	m.renewed += t.renewals()
}

// granted counts a grant of ttl > 0 seconds.
func (c *counters) granted(ttl int64) {
	c.grantedTotal.Add(1)
	c.ttlSum.Add(uint64(ttl))
	c.ttl[min(bits.Len64(uint64(ttl-1)), ttlBuckets)].Add(1)
}

// Stats are the keeper's counters. All but Active only grow.
type Stats struct {
	Granted uint64 // grants that succeeded
	Revoked uint64 // leases revoked, expired ones included
	Expired uint64 // leases revoked because they expired
	Renewed uint64 // renewals of leases that were good
	Retries uint64 // attempts to revoke an expired lease that failed and are made again
	Active  int    // leases in the table, those that are being granted or revoked included
}

// Stats returns the counters. They are read one by one, so they may be a few events apart.
func (m *Meter) Stats() Stats {
	s := Stats{
		Granted: m.grantedTotal.Load(),
		Revoked: m.revokedTotal.Load(),
		Expired: m.expiredTotal.Load(),
		Retries: m.retriesTotal.Load(),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Renewed = m.renewed
	for t := range m.tables {
		s.Renewed += t.renewals()
		s.Active += int(t.size.Load())
	}
	return s
}

// Stats returns the counters of the keeper's Meter.
func (k *Keeper) Stats() Stats { return k.count.Stats() }

// Names under which etcd's dashboards look, and our own.
var (
	descGranted = prometheus.NewDesc("etcd_debugging_lease_granted_total", "The total number of granted leases.", nil, nil)
	descRevoked = prometheus.NewDesc("etcd_debugging_lease_revoked_total", "The total number of revoked leases.", nil, nil)
	descRenewed = prometheus.NewDesc("etcd_debugging_lease_renewed_total", "The total number of lease renewals.", nil, nil)
	descExpired = prometheus.NewDesc("etcd_debugging_server_lease_expired_total",
		"The total number of expired leases.", nil, nil)
	descTTL = prometheus.NewDesc("etcd_debugging_lease_ttl_total",
		"Histogram of the TTLs of granted leases, in seconds.", nil, nil)
	descActive  = prometheus.NewDesc("headwater_lease_active", "The number of leases.", nil, nil)
	descRetries = prometheus.NewDesc("headwater_lease_revoke_retries_total",
		"Attempts to revoke an expired lease that failed and were made again.", nil, nil)
)

var (
	_ prometheus.Collector = (*Keeper)(nil)
	_ prometheus.Collector = (*Meter)(nil)
)

// Describe implements prometheus.Collector.
func (k *Keeper) Describe(ch chan<- *prometheus.Desc) { k.count.Describe(ch) }

// Collect implements prometheus.Collector.
func (k *Keeper) Collect(ch chan<- prometheus.Metric) { k.count.Collect(ch) }

// Describe implements prometheus.Collector.
func (m *Meter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descGranted, descRevoked, descRenewed, descExpired, descTTL, descActive, descRetries,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Meter) Collect(ch chan<- prometheus.Metric) {
	s := m.Stats()
	counter := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	counter(descGranted, s.Granted)
	counter(descRevoked, s.Revoked)
	counter(descRenewed, s.Renewed)
	counter(descExpired, s.Expired)
	counter(descRetries, s.Retries)
	ch <- prometheus.MustNewConstMetric(descActive, prometheus.GaugeValue, float64(s.Active))

	var n uint64
	buckets := make(map[float64]uint64, ttlBuckets)
	for i := range ttlBuckets {
		n += m.ttl[i].Load()
		buckets[float64(uint64(1)<<i)] = n
	}
	n += m.ttl[ttlBuckets].Load()
	ch <- prometheus.MustNewConstHistogram(descTTL, n, float64(m.ttlSum.Load()), buckets)
}
