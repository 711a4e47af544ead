package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"expvar"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headwaterdb/headwater/libs/tlsconf"
)

// Limits of an HTTP/1 connection.
const (
	httpHeaderTimeout  = sniffTimeout
	httpBodyTimeout    = 5 * time.Second // only the answers of profiles depend on a body
	httpIdleTimeout    = 2 * time.Minute
	httpAnswerTimeout  = 10 * time.Second // for a client to read its answer
	httpWriteTimeout   = 5 * time.Minute  // the same for profiles, which may take long to make
	httpHeaderBytesMax = 64 << 10
	scrapesMax         = 4 // metrics requests served at the same time
)

// Versions is the answer of /version.
type Versions struct {
	Server  string `json:"etcdserver"`
	Cluster string `json:"etcdcluster"`
	Storage string `json:"storage"`
}

// HTTPOptions say what the HTTP endpoints serve.
type HTTPOptions struct {
	Health   Health
	Ready    []Check // of /readyz, beside etcd's
	Versions Versions
	Metrics  *prometheus.Registry
	Pprof    bool
	// Withhold, if set, is called for each request. While it returns true, client URLs refuse what shows the whole
	// process (metrics, variables, profiles). It must return at once.
	Withhold func() bool
	// HostWhitelist and CORS are etcd's flags: the allowed values of the Host and the Origin header. "*" or none: all.
	HostWhitelist, CORS []string
	// Gateway serves /v3/ and /v3beta/ for HTTP clients, by calls on GRPC.Local. nil: these paths are not there. It
	// sets the deadlines of bodies and answers itself.
	Gateway http.Handler
	// RefuseGateway, if set, is called for each request for Gateway before anything is answered. If it returns a text,
	// that is the answer instead of Gateway's, with status 400.
	RefuseGateway func(*http.Request) string
	// Status serves the status page for Operators below StatusPath, by calls on GRPC.Local. nil: there is none. It sets
	// the deadlines of long answers itself.
	Status     http.Handler
	StatusPath string
	// MaxConnectionAge is the age from which a connection is closed after an answer. 0: no limit.
	MaxConnectionAge time.Duration
	Log              *slog.Logger
}

// gatewayPath begins the paths of the gateway.
const gatewayPath = "/v3/"

// httpHandlers are the handlers of client URLs and of metrics URLs.
type httpHandlers struct{ client, metrics http.Handler }

func newHTTP(o HTTPOptions) httpHandlers {
	h := &healthHandlers{health: o.Health, counters: newHealthCounters(o.Metrics), ready: o.Ready, log: o.Log}
	scrape := promhttp.InstrumentMetricHandler(o.Metrics,
		promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesMax}))
	metrics, client := http.NewServeMux(), http.NewServeMux()
	h.install(metrics)
	h.install(client)
	metrics.Handle("/metrics", scrape)
	// What shows the whole process has a mux of its own, so that no path is forgotten when it is withheld.
	process := http.NewServeMux()
	process.Handle("/metrics", scrape)
	installDebug(process, o.Pprof)
	client.Handle("/metrics", withheld(o.Withhold, process))
	client.Handle("/debug/", withheld(o.Withhold, process))
	client.HandleFunc("/version", onlyGet(serveVersion(o.Versions)))
	if o.Gateway != nil {
		client.Handle(gatewayPath, withCaller(o.Gateway))
	}
	return httpHandlers{client: aged(o.MaxConnectionAge, oldPaths(accessControl(o, client))), metrics: metrics}
}

// installDebug registers the handlers below /debug/.
func installDebug(mux *http.ServeMux, profiles bool) {
	mux.HandleFunc("/debug/vars", onlyGet(serveVars))
	if profiles {
		mux.HandleFunc("/debug/pprof/", unhurried(pprof.Index))
		mux.HandleFunc("/debug/pprof/cmdline", unhurried(pprof.Cmdline))
		mux.HandleFunc("/debug/pprof/profile", unhurried(pprof.Profile))
		mux.HandleFunc("/debug/pprof/symbol", unhurried(pprof.Symbol))
		mux.HandleFunc("/debug/pprof/trace", unhurried(pprof.Trace))
	}
}

// withheldText is the answer where something is withheld.
const withheldText = "headwater: this tells of all keyspaces, and there are several here, or not everybody may " +
	"enter: it is served by --listen-metrics-urls (/metrics) and by the admin API's socket (/metrics and /debug/)"

// withheld refuses what next serves while withhold returns true.
func withheld(withhold func() bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if withhold != nil && withhold() {
			http.Error(w, withheldText, http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// newHTTPServer serves h. Its connections are in the waiting room while they wait for a request.
func newHTTPServer(h http.Handler, waiting *waitingRoom) *http.Server {
	return &http.Server{
		Handler:           secured(hurried(h)),
		ConnContext:       withConnection,
		ConnState:         waiting.connState,
		ReadHeaderTimeout: httpHeaderTimeout,
		WriteTimeout:      httpWriteTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    httpHeaderBytesMax,
		ErrorLog:          log.New(discard{}, "", 0), // do not log the errors of clients, as etcd does not
	}
}

// hurried bounds the time of a request: for its body, which net/http reads before the next request whether or not the
// handler does, and for the answer. Setting a deadline fails only on a connection that has ended.
func hurried(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, now := http.NewResponseController(w), time.Now()
		if r.ContentLength != 0 {
			_ = c.SetReadDeadline(now.Add(httpBodyTimeout))
		}
		_ = c.SetWriteDeadline(now.Add(httpAnswerTimeout))
		next.ServeHTTP(w, r)
	})
}

// unhurried gives an answer the longest time that the server allows.
func unhurried(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(httpWriteTimeout)) // as in hurried
		next(w, r)
	}
}

// connection is what a request knows about its connection.
type connection struct {
	began time.Time
	tls   *tls.ConnectionState // nil: there is none
}

// connectionKey finds the connection in a request's context.
type connectionKey struct{}

// withConnection is an http.Server's ConnContext.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	known := connection{began: time.Now()}
	if info := tlsconf.InfoOf(c); info != nil {
		known.tls = &info.State
	}
	return context.WithValue(noteConn(ctx, c), connectionKey{}, known)
}

// secured gives requests the state of their TLS. net/http has not made the handshake and does not know it.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connectionKey{}).(connection); ok {
			r.TLS = c.tls
		}
		next.ServeHTTP(w, r)
	})
}

// aged closes a connection after an answer if it is older than most.
func aged(most time.Duration, next http.Handler) http.Handler {
	if most == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connectionKey{}).(connection); ok && time.Since(c.began) > most {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// accessControl checks the Host header (DNS rebinding, CVE-2018-5702) and adds CORS headers, as etcd does on listeners
// without TLS.
func accessControl(o HTTPOptions, next http.Handler) http.Handler {
	allowed := func(list []string, v string) bool {
		return len(list) == 0 || slices.Contains(list, "*") || slices.Contains(list, v)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostname(r.Host)
		if r.TLS == nil && !allowed(o.HostWhitelist, host) {
			o.Log.Warn("rejecting HTTP request to prevent DNS rebinding attacks", "host", host)
			http.Error(
				w,
				fmt.Sprintf(
					"The Host header %q is not in --host-whitelist (protection from DNS rebinding, CVE-2018-5702).",
					host,
				),
				http.StatusMisdirectedRequest,
			)
			return
		}
		if refusal := o.refuse(r); refusal != "" {
			http.Error(w, refusal, http.StatusBadRequest)
			return
		}
		if origin := r.Header.Get("Origin"); allowed(o.CORS, "*") {
			addCORS(w, "*")
		} else if allowed(o.CORS, origin) {
			addCORS(w, origin)
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusOK)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse returns the reason to refuse a request for the gateway; "": none.
func (o *HTTPOptions) refuse(r *http.Request) (why string) {
	if o.Gateway == nil || o.RefuseGateway == nil || !strings.HasPrefix(r.URL.Path, gatewayPath) {
		return ""
	}
	withCaller(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		why = o.RefuseGateway(r)
	})).ServeHTTP(nil, r)
	return why
}

// oldPaths serves /v3beta/ as /v3/, as etcd does.
func oldPaths(next http.Handler) http.Handler {
	const before, now = "/v3beta/", gatewayPath
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, ok := strings.CutPrefix(r.URL.Path, before); ok {
			r.URL.Path = now + rest
		}
		next.ServeHTTP(w, r)
	})
}

func addCORS(w http.ResponseWriter, origin string) {
	w.Header().Add("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
	w.Header().Add("Access-Control-Allow-Origin", origin)
	w.Header().Add("Access-Control-Allow-Headers", "accept, content-type, authorization")
}

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func onlyGet(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		next(w, r)
	}
}

func serveVersion(v Versions) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		body, err := json.Marshal(v)
		if err != nil { // three strings
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		write(w, body)
	}
}

func serveVars(w http.ResponseWriter, _ *http.Request) {
	var out strings.Builder
	out.WriteString("{\n")
	first := true
	expvar.Do(func(kv expvar.KeyValue) {
		if !first {
			out.WriteString(",\n")
		}
		first = false
		fmt.Fprintf(&out, "%q: %s", kv.Key, kv.Value)
	})
	out.WriteString("\n}\n")
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	write(w, []byte(out.String()))
}

// write sends a body. If the client has gone away, that is not an error.
func write(w http.ResponseWriter, body []byte) { _, _ = w.Write(body) }
