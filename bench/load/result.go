package load

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/headwaterdb/headwater/bench/proc"
)

// Range and precision of the histograms: 1 µs steps from 1 µs to 10 minutes, three significant digits.
const (
	latencyMin    = 1
	latencyMax    = int64(10 * time.Minute / time.Microsecond)
	latencyDigits = 3
	// recorderShards spreads the recording clients over several locks.
	recorderShards = 8
)

// Latency sums up the latencies of one kind of request.
type Latency struct {
	Kind  string        `json:"kind"`
	Count int64         `json:"count"`
	Mean  time.Duration `json:"mean"`
	P50   time.Duration `json:"p50"`
	P90   time.Duration `json:"p90"`
	P99   time.Duration `json:"p99"`
	P999  time.Duration `json:"p999"`
	Max   time.Duration `json:"max"`
}

// Server is what the server process used in the window.
type Server struct {
	CPUPerSecond float64     `json:"cpuPerSecond"` // cores in use
	CPUPerUnit   float64     `json:"cpuPerUnit"`   // seconds per unit of work
	Memory       proc.Memory `json:"memory"`       // at the end of the window
	// Others is how many cores something other than the server and this client used: other programs, the kernel's
	// own threads, a hypervisor. More than a few hundredths disturb the result.
	Others float64 `json:"others"`
}

// Result is what a load measured.
type Result struct {
	Command string        `json:"command"`
	Window  time.Duration `json:"window"`
	Ops     int64         `json:"ops"`       // requests of the window
	Rate    float64       `json:"rate"`      // Ops per second
	Unit    string        `json:"unit"`      // what Units counts: requests, keys, events
	Units   int64         `json:"units"`     // work done in the window
	PerSec  float64       `json:"perSecond"` // Units per second

	Errors     int64  `json:"errors"` // of the whole run
	FirstError string `json:"firstError,omitempty"`

	Conflicts int64 `json:"conflicts"` // transactions of the whole run whose compare was false
	Writes    int64 `json:"writes"`    // acknowledged requests of the whole run that made a revision
	Revisions int64 `json:"revisions"` // how far the server's revision moved

	Latencies []Latency `json:"latencies"`
	Server    *Server   `json:"server,omitempty"`
}

// WriteText writes r for people.
func (r *Result) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d requests in %.2f s, %.0f/s", r.Command, r.Ops, r.Window.Seconds(), r.Rate)
	if r.Unit != unitRequests {
		fmt.Fprintf(&b, "; %d %s, %.0f %s/s", r.Units, r.Unit, r.PerSec, r.Unit)
	}
	fmt.Fprintf(&b, "\nerrors: %d", r.Errors)
	if r.FirstError != "" {
		fmt.Fprintf(&b, " (first: %s)", r.FirstError)
	}
	fmt.Fprintf(&b, "; false compares: %d; writes acknowledged: %d; revisions: %d\n", r.Conflicts, r.Writes,
		r.Revisions)
	fmt.Fprintf(&b, "%-12s %10s %10s %10s %10s %10s %10s %10s\n", "latency (ms)", "count", "mean", "p50", "p90", "p99",
		"p99.9", "max")
	for _, l := range r.Latencies {
		fmt.Fprintf(&b, "%-12s %10d %10.3f %10.3f %10.3f %10.3f %10.3f %10.3f\n", l.Kind, l.Count,
			ms(l.Mean), ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max))
	}
	if s := r.Server; s != nil {
		fmt.Fprintf(
			&b,
			"server: %.2f cores, %.2f µs CPU per %s, RSS %d MiB (peak %d, anon %d, file %d); others %.2f cores\n",
			s.CPUPerSecond,
			s.CPUPerUnit*1e6,
			strings.TrimSuffix(r.Unit, "s"),
			s.Memory.RSS>>20,
			s.Memory.Peak>>20,
			s.Memory.Anon>>20,
			s.Memory.File>>20,
			s.Others,
		)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// recorder collects latencies by kind. Safe for concurrent use.
type recorder struct {
	kinds  []string
	shards [recorderShards]struct {
		mu    sync.Mutex
		hists []*hdrhistogram.Histogram
		units int64
		_     [64]byte // keeps locks off each other's cache lines
	}
}

func newRecorder(kinds []string) *recorder {
	r := &recorder{kinds: kinds}
	for i := range r.shards {
		for range kinds {
			r.shards[i].hists = append(r.shards[i].hists, hdrhistogram.New(latencyMin, latencyMax, latencyDigits))
		}
	}
	return r
}

// record adds one request of a kind that did so many units of work. Latencies outside the range count as its ends.
func (r *recorder) record(worker, kind int, d time.Duration, units int64) {
	us := min(max(d.Microseconds(), latencyMin), latencyMax)
	s := &r.shards[worker%recorderShards]
	s.mu.Lock()
	_ = s.hists[kind].RecordValue(us) // cannot fail within the range
	s.units += units
	s.mu.Unlock()
}

// sum merges the shards.
func (r *recorder) sum() (ls []Latency, ops, units int64) {
	for k, name := range r.kinds {
		h := hdrhistogram.New(latencyMin, latencyMax, latencyDigits)
		for i := range r.shards {
			r.shards[i].mu.Lock()
			h.Merge(r.shards[i].hists[k])
			r.shards[i].mu.Unlock()
		}
		ls = append(ls, summarize(name, h))
		ops += h.TotalCount()
	}
	for i := range r.shards {
		r.shards[i].mu.Lock()
		units += r.shards[i].units
		r.shards[i].mu.Unlock()
	}
	return ls, ops, units
}

func summarize(kind string, h *hdrhistogram.Histogram) Latency {
	at := func(q float64) time.Duration { return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond }
	return Latency{
		Kind: kind, Count: h.TotalCount(), Mean: time.Duration(h.Mean() * float64(time.Microsecond)),
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: time.Duration(h.Max()) * time.Microsecond,
	}
}

// Kind returns the latencies of a kind of request.
func (r *Result) Kind(name string) (Latency, bool) {
	i := slices.IndexFunc(r.Latencies, func(l Latency) bool { return l.Kind == name })
	if i < 0 {
		return Latency{}, false
	}
	return r.Latencies[i], true
}
