package watchload

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Names of the values in Result.Values. Times are seconds, sizes bytes, CPU seconds of the server alone.
const (
	EventsPerSecond = "events_per_second" // delivered in the window
	WritesPerSecond = "writes_per_second" // answered in the window
	CPUPerEvent     = "cpu_per_event"     // CPU of the window and of the delivery of its last events, divided by events
	CPUCores        = "cpu_cores"         // CPU per second of the same time
	EventP50        = "event_p50"         // write sent → event at client
	EventP99        = "event_p99"
	EventMax        = "event_max"
	PutP50          = "put_p50"
	PutP99          = "put_p99"
	RSSBefore       = "rss_before" // watchers open, nothing written
	RSSMax          = "rss_max"    // highest until the last event
	RSSGrowth       = "rss_growth" // RSSMax - RSSBefore

	RSSPerWatcher  = "rss_per_watcher"
	LivePerWatcher = "live_per_watcher" // heap and stacks in use after a collection
	CreateAll      = "create_all"       // first create request → all created

	LiveAll     = "live_all"    // first dial → last watcher live; of CatchUp: processes go on → last event
	LiveMedian  = "live_median" // first dial → half of them live
	HistoryRate = "history_per_second"
	FirstEvent  = "first_event" // of CatchUp: processes go on → first event

	WithoutBeside = "without" // the measured value without the watchers beside: mean of before and after
	WithBeside    = "with"
	BesideRatio   = "ratio" // WithBeside / WithoutBeside

	CPURatio    = "cpu_ratio"    // server CPU per put with, divided by without
	WritesRatio = "writes_ratio" // writes answered with, divided by without
	BehindRead  = "behind_read"  // events that the watcher which was behind has read in the window
	Lists       = "lists"        // in the window
)

// Result is what a load measured.
type Result struct {
	Command string             `json:"command"`
	Values  map[string]float64 `json:"values"`
	// Others is how many cores other programs used. More than a few hundredths disturb the result.
	Others float64 `json:"others"`
}

// WriteText writes r for people.
func (r *Result) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (times in seconds, sizes in bytes; others used %.2f cores)\n", r.Command, r.Others)
	for _, name := range slices.Sorted(maps.Keys(r.Values)) {
		fmt.Fprintf(&b, "%-20s %14.6g\n", name, r.Values[name])
	}
	_, err := io.WriteString(w, b.String())
	return err
}
