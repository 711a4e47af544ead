package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MetricsKeyspacesMax is the most keyspaces that have metrics of their own.
const MetricsKeyspacesMax = 100

// MetricsKeyspaces are the keyspaces that have metrics of their own: those of Names, or the Top busiest. The zero value
// means none.
type MetricsKeyspaces struct {
	Names []string
	Top   int
}

// metricsNone and metricsTop are the values of the flag that are not names of keyspaces. top:N has a colon, which no
// name has. A keyspace that is called "none" can be given beside another name, or by top:N.
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
