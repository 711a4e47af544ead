package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// TestMetricsKeyspaces: the flag names keyspaces, or asks for the busiest or for none. It is refused if it asks for
// more than the limit.
func TestMetricsKeyspaces(t *testing.T) {
	var many []string
	for i := range MetricsKeyspacesMax + 1 {
		many = append(many, fmt.Sprint("k", i))
	}
	for v, want := range map[string]MetricsKeyspaces{
		"":            {},
		"none":        {},
		" a ,b,a":     {Names: []string{"a", "b"}},
		"none,a":      {Names: []string{"a", "none"}},
		"top:1":       {Top: 1},
		"top:20":      {Top: 20},
		" top:100":    {Top: MetricsKeyspacesMax},
		many[0] + ",": {Names: many[:1]},
	} {
		if got, err := parseMetricsKeyspaces(v); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v, want %v", v, got, err, want)
		}
	}
	for _, v := range []string{
		"top:", "top:0", "top:-1", "top:101", "top:x", "a,top:3", "a:b", strings.Join(many, ","),
	} {
		if got, err := parseMetricsKeyspaces(v); err == nil {
			t.Errorf("%q: %v", v, got)
		}
	}
}
