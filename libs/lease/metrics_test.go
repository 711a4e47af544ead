package lease

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestMetrics: the names that dashboards look for are there, with the values of Stats, and the TTLs in etcd's buckets.
func TestMetrics(t *testing.T) {
	bubble(t, func(t *testing.T, _ *fakeStore, k *Keeper) {
		for i, ttl := range []int64{2, 3, 4, 5, 1 << 23, 1<<23 + 1} {
			grant(t, k, int64(i+1), ttl)
		}
		renew(t, k, 5, 1<<23)
		if _, err := k.Revoke(t.Context(), 6); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2500 * time.Millisecond) // the first expires
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(k)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got, ttls := map[string]float64{}, map[float64]uint64{}
		for _, f := range families {
			m := f.GetMetric()[0]
			switch {
			case m.GetCounter() != nil:
				got[f.GetName()] = m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				got[f.GetName()] = m.GetGauge().GetValue()
			default:
				got[f.GetName()] = float64(m.GetHistogram().GetSampleCount())
				for _, b := range m.GetHistogram().GetBucket() {
					ttls[b.GetUpperBound()] = b.GetCumulativeCount()
				}
			}
		}
		want := map[string]float64{
			"etcd_debugging_lease_granted_total":        6,
			"etcd_debugging_lease_revoked_total":        2,
			"etcd_debugging_lease_renewed_total":        1,
			"etcd_debugging_lease_ttl_total":            6,
			"etcd_debugging_server_lease_expired_total": 1,
			"headwater_lease_active":                    4,
			"headwater_lease_revoke_retries_total":      0,
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		for bound, want := range map[float64]uint64{1: 0, 2: 1, 4: 3, 8: 4, 1 << 22: 4, 1 << 23: 5} {
			if ttls[bound] != want {
				t.Errorf("%v leases of at most %v s, want %v", ttls[bound], bound, want)
			}
		}
		if len(ttls) != ttlBuckets {
			t.Errorf("%d buckets", len(ttls))
		}
	})
}
