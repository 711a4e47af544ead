package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MetricsKeyspacesMax bounds the keyspaces that metrics tell of one by one.
const MetricsKeyspacesMax = 100

// MetricsKeyspaces says of which keyspaces metrics tell one by one: those of Names, or the Top busiest. Zero: of none.
type MetricsKeyspaces struct {
	Names []string
	Top   int
}

// metricsNone and metricsTop are what the flag may say beside names. Neither is a name: one has a colon, and who
// calls a keyspace "none" names it together with another, or by top.
const (
	metricsNone = "none"
	metricsTop  = "top:"
)

// parseMetricsKeyspaces reads the value of --metrics-keyspaces: names, top:N, or none.
func parseMetricsKeyspaces(v string) (m MetricsKeyspaces, err error) {
	if n, ok := strings.CutPrefix(strings.TrimSpace(v), metricsTop); ok {
		m.Top, err = strconv.Atoi(n)
		if err != nil || m.Top < 1 || m.Top > MetricsKeyspacesMax {
			return MetricsKeyspaces{}, fmt.Errorf("want %sN with N from 1 to %d", metricsTop, MetricsKeyspacesMax)
		}
		return m, nil
	}
	names := splitList(v)
	if len(names) == 0 || slices.Equal(names, []string{metricsNone}) {
		return MetricsKeyspaces{}, nil
	}
	if slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, ":") }) {
		return MetricsKeyspaces{}, fmt.Errorf("want names of keyspaces, %sN, or %s", metricsTop, metricsNone)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > MetricsKeyspacesMax {
		return MetricsKeyspaces{}, fmt.Errorf("%d names, at most %d", len(names), MetricsKeyspacesMax)
	}
	return MetricsKeyspaces{Names: names}, nil
}
