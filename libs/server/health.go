package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// healthTimeout bounds the read of a health check (etcd's request timeout at its default election timeout).
const healthTimeout = 7 * time.Second

// Health is what the health endpoints check.
type Health interface {
	// Read reads one key of the keyspace, serializable or linearizable.
	Read(ctx context.Context, serializable bool) error
	// Alarms returns the active alarms.
	Alarms() []*pb.AlarmMember
}

// healthCounters are etcd's metrics of its health endpoints.
type healthCounters struct {
	success, failures prometheus.Counter
	result            *prometheus.GaugeVec
	total             *prometheus.CounterVec
}

func newHealthCounters(r prometheus.Registerer) *healthCounters {
	c := &healthCounters{
		success: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "etcd_server_health_success", Help: "The total number of successful health checks",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "etcd_server_health_failures", Help: "The total number of failed health checks",
		}),
		result: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "etcd_server_healthcheck", Help: "The result of each kind of healthcheck.",
		}, []string{"type", "name"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "etcd_server_healthchecks_total", Help: "The total number of each kind of healthcheck.",
		}, []string{"type", "name", "status"}),
	}
	r.MustRegister(c.success, c.failures, c.result, c.total)
	return c
}

func (c *healthCounters) checked(kind, name string, err error) {
	value, status := 1.0, "success"
	if err != nil {
		value, status = 0, "error"
	}
	c.result.WithLabelValues(kind, name).Set(value)
	c.total.WithLabelValues(kind, name, status).Inc()
}

// healthHandlers serves /health, /livez and /readyz. Bodies, codes and query parameters are etcd's
// (etcdhttp/health.go).
type healthHandlers struct {
	health   Health
	counters *healthCounters
	ready    []Check // of /readyz, beside etcd's
	log      *slog.Logger
}

func (h *healthHandlers) install(mux *http.ServeMux) {
	mux.HandleFunc("/health", onlyGet(h.serveHealth))
	read := func(serializable bool) func(context.Context) error {
		return func(ctx context.Context) error { return h.health.Read(ctx, serializable) }
	}
	h.installChecks(mux, "livez", []Check{
		{"serializable_read", read(true)},
	})
	h.installChecks(mux, "readyz", append([]Check{
		{"data_corruption", h.checkCorrupt},
		{"serializable_read", read(true)},
		{"linearizable_read", read(false)},
		{"non_learner", func(context.Context) error { return nil }},
	}, h.ready...))
}

// serveHealth is the old endpoint: one JSON answer for everything.
func (h *healthHandlers) serveHealth(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	reason := h.unhealthy(r.Context(), querySet(q, "exclude"), q.Get("serializable") == "true")
	answer := struct {
		Health string `json:"health"`
		Reason string `json:"reason"`
	}{"true", reason}
	if reason != "" {
		answer.Health = "false"
	}
	body, err := json.Marshal(answer)
	if err != nil { // two strings
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if reason != "" {
		h.counters.failures.Inc()
		h.log.Warn("/health error", "output", string(body), "status-code", http.StatusServiceUnavailable)
		http.Error(w, string(body), http.StatusServiceUnavailable)
		return
	}
	h.counters.success.Inc()
	write(w, body)
}

// unhealthy returns the reason why the process is unhealthy, or "".
func (h *healthHandlers) unhealthy(ctx context.Context, excluded map[string]bool, serializable bool) string {
	for _, a := range h.health.Alarms() {
		if name := a.GetAlarm().String(); !excluded[name] {
			return "ALARM " + name
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	if err := h.health.Read(ctx, serializable); err != nil {
		return fmt.Sprintf("RANGE ERROR:%s", err)
	}
	return ""
}

func (h *healthHandlers) checkCorrupt(context.Context) error {
	for _, a := range h.health.Alarms() {
		if a.GetAlarm() == pb.AlarmType_CORRUPT {
			return fmt.Errorf("alarm activated: %s", a.GetAlarm())
		}
	}
	return nil
}

// Check is one named check of /livez or /readyz.
type Check struct {
	Name string
	Run  func(context.Context) error // nil: passed
}

// installChecks serves all checks at /kind and each alone at /kind/name.
func (h *healthHandlers) installChecks(mux *http.ServeMux, kind string, checks []Check) {
	mux.HandleFunc("/"+kind, onlyGet(func(w http.ResponseWriter, r *http.Request) {
		excluded := querySet(r.URL.Query(), "exclude")
		var run []Check
		for _, c := range checks {
			if !excluded[c.Name] {
				run = append(run, c)
			}
			delete(excluded, c.Name)
		}
		if len(excluded) > 0 {
			h.log.Warn("some health checks cannot be excluded", "missing-health-checks", quoted(excluded))
		}
		h.serveChecks(w, r, kind, run)
	}))
	for _, c := range checks {
		mux.HandleFunc("/"+kind+"/"+c.Name, onlyGet(func(w http.ResponseWriter, r *http.Request) {
			h.serveChecks(w, r, kind, []Check{c})
		}))
	}
}

func (h *healthHandlers) serveChecks(w http.ResponseWriter, r *http.Request, kind string, checks []Check) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	var out strings.Builder
	failed := false
	for _, c := range checks {
		err := c.Run(ctx)
		h.counters.checked(kind, c.Name, err)
		if err != nil {
			failed = true
			fmt.Fprintf(&out, "[-]%s failed: %v\n", c.Name, err)
			continue
		}
		fmt.Fprintf(&out, "[+]%s ok\n", c.Name)
	}
	if failed {
		h.log.Error(
			"Health check error", "path", r.URL.Path, "reason", out.String(), "status-code",
			http.StatusServiceUnavailable,
		)
		http.Error(w, out.String(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if _, verbose := r.URL.Query()["verbose"]; !verbose {
		out.Reset()
	}
	write(w, []byte(out.String()+"ok\n"))
}

// querySet returns the non-empty values of a query parameter.
func querySet(q url.Values, name string) map[string]bool {
	set := make(map[string]bool)
	for _, v := range q[name] {
		if v != "" {
			set[v] = true
		}
	}
	return set
}

func quoted(set map[string]bool) string {
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, fmt.Sprintf("%q", name))
	}
	sort.Strings(names)
	return strings.Join(names, ",")
}
