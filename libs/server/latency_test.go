package server

import (
	"maps"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// TestLatencies: the histogram is the one that Prometheus' own makes of the same observations.
func TestLatencies(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	bounds := prometheus.ExponentialBuckets(0.0001, 2, 17)
	ours := NewLatencies("x", "y", bounds)
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x", Help: "y", Buckets: bounds})
	observe := func(n int, d time.Duration) {
		ours.Observe(n, d)
		for range n {
			theirs.Observe(d.Seconds())
		}
	}
	observe(3, 0)
	observe(1, 100*time.Microsecond) // a bound belongs to its bucket
	for range 1000 {
		observe(rnd.IntN(5), time.Duration(rnd.Int64N(1<<rnd.IntN(36))))
	}
	got, want := scrapeOne(t, ours), scrapeOne(t, theirs)
	if math.Abs(got["x_sum"]-want["x_sum"]) > 1e-6 {
		t.Errorf("sum %v, want %v", got["x_sum"], want["x_sum"])
	}
	delete(got, "x_sum")
	delete(want, "x_sum")
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// scrapeOne returns the values of a collector by name and labels.
func scrapeOne(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w,
		httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	values := map[string]float64{}
	for line := range strings.Lines(w.Body.String()) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		v, err := strconv.ParseFloat(text, 64)
		if err == nil {
			values[name] = v
		}
	}
	if len(values) == 0 {
		t.Fatal("nothing was scraped:", w.Body)
	}
	return values
}
