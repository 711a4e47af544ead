package compose

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/engine/join"
)

// joinCollectors show what keyspaces of a pod commit together.
func joinCollectors(s *join.Stats) []prometheus.Collector {
	counter := func(name, help string, n *atomic.Int64) prometheus.Collector {
		return prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: "headwater_joined_" + name + "_total", Help: help},
			func() float64 { return float64(n.Load()) },
		)
	}
	return []prometheus.Collector{
		counter("commits", "Transactions that carried the groups of several keyspaces.", &s.Joined),
		counter("groups", "Groups in them.", &s.Members),
		counter("apart", "Such transactions that were refused, so that their groups were committed one by one.",
			&s.Apart),
	}
}
