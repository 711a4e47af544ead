package status

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// Path begins the paths of the page.
const Path = "/status/"

// Limits.
const (
	// requestsMax bounds the requests that read keyspaces at the same time, and those for the overview and the list of
	// keyspaces. tailsMax bounds the open tails, and tailsPerViewer those of one address. A browser opens at most 6.
	requestsMax    = 32
	tailsMax       = 64
	tailsPerViewer = 16
	// requestTimeout bounds the time that a page waits for answers.
	requestTimeout = 5 * time.Second
	// answerMax bounds the bytes of one answer of the etcd API. A page with more is read in smaller parts.
	answerMax = 4 << 20
)

// Keyspaces and Deployment are the parts of the admin API that the page needs.
type (
	Keyspaces interface {
		Usage(ctx context.Context, r *adminv1.UsageRequest) (*adminv1.UsageResponse, error)
	}
	Deployment interface {
		Version(ctx context.Context, r *adminv1.VersionRequest) (*adminv1.VersionResponse, error)
		Pods(ctx context.Context, r *adminv1.PodsRequest) (*adminv1.PodsResponse, error)
		Elections(ctx context.Context, r *adminv1.ElectionsRequest) (*adminv1.ElectionsResponse, error)
	}
)

// Deletion is a deleted keyspace whose rows are still being cleared.
type Deletion struct {
	Keyspace string    `json:"keyspace"`
	ID       uint64    `json:"id"`
	Since    time.Time `json:"since"`
}

// Options configure a Handler.
type Options struct {
	Keyspaces  Keyspaces
	Deployment Deployment
	// Deletions returns the deletions that are under way, a bounded number of them; nil: there are none.
	Deletions func(context.Context) ([]Deletion, error)
	// Conn leads to the process's own etcd API. The context of a call is that of the HTTP request, which has the
	// client. nil: keyspaces cannot be looked into.
	Conn grpc.ClientConnInterface
	// KeyspaceMetadata is the metadata in which a call over Conn names its keyspace.
	KeyspaceMetadata string
	Metrics          prometheus.Gatherer
	// Hosts are the names by which the process is known, without ports. Addresses and localhost need not be listed.
	Hosts []string
	Log   *slog.Logger // nil: discarded
	// Now returns the time; nil: time.Now.
	Now func() time.Time
}

// Handler serves the status page below Path. Call Close at the end.
type Handler struct {
	o       Options
	mux     *http.ServeMux
	meter   *meter
	census  *census
	logins  logins
	viewers viewers
	kv      pb.KVClient
	watch   pb.WatchClient
	auth    pb.AuthClient
	looks   chan struct{} // has an element for each request for the overview or the list of keyspaces
	places  chan struct{} // for each that reads a keyspace
	tails   chan struct{} // for each tail
	closing context.Context
	close   context.CancelFunc
	running sync.WaitGroup
}

//go:embed assets
var assets embed.FS

// New returns a Handler.
func New(o Options) *Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{
		o: o, mux: http.NewServeMux(), meter: newMeter(o.Metrics, o.Now),
		looks: make(chan struct{}, requestsMax), places: make(chan struct{}, requestsMax),
		tails: make(chan struct{}, tailsMax),
	}
	h.closing, h.close = context.WithCancel(context.Background())
	h.census = newCensus(h)
	h.logins.now = o.Now
	if o.Conn != nil {
		h.kv, h.watch, h.auth = pb.NewKVClient(o.Conn), pb.NewWatchClient(o.Conn), pb.NewAuthClient(o.Conn)
	}
	h.route()
	return h
}

func (h *Handler) route() {
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	h.mux.Handle("GET "+Path+"assets/", http.StripPrefix(Path+"assets/", cached(http.FileServerFS(files))))
	h.mux.HandleFunc("GET "+Path+"{$}", h.looking(h.serveOverview))
	h.mux.HandleFunc("GET "+Path+"overview.json", h.looking(h.serveOverviewJSON))
	h.mux.HandleFunc("GET "+Path+"keyspaces", h.looking(h.serveKeyspaces))
	h.mux.HandleFunc("GET "+Path+"keyspaces/{name}/", h.browsing(h.serveKeys))
	h.mux.HandleFunc("GET "+Path+"keyspaces/{name}/key", h.browsing(h.serveKey))
	h.mux.HandleFunc("GET "+Path+"keyspaces/{name}/tail", h.browsing(h.serveTail))
	h.mux.HandleFunc("GET "+Path+"keyspaces/{name}/events", h.serveEvents)
}

// Close ends tails and the work in the background, and waits for them. It refuses later requests.
func (h *Handler) Close() {
	h.close()
	h.census.mu.Lock()
	h.census.mu.Unlock() //nolint:staticcheck // it only waits for a census that began before the close
	h.running.Wait()
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if why := h.strange(r); why != "" {
		http.Error(w, why, http.StatusMisdirectedRequest)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// policy is the Content-Security-Policy of all answers.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secure sets the headers that keep other sites out.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// asset returns the address of a file of the package. It changes with the content.
func asset(name string) (string, error) {
	b, err := assets.ReadFile("assets/" + name)
	sum := sha256.Sum256(b)
	return Path + "assets/" + name + "?v=" + hex.EncodeToString(sum[:4]), err
}

// cached allows browsers to keep files of the package for a while.
func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "private, max-age=86400")
		next.ServeHTTP(w, r)
	})
}

// looking bounds the requests for pages about the deployment: each reads rows of the store, and needs no login.
func (h *Handler) looking(page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		leave, ok := h.enter(h.looks)
		if !ok {
			h.fail(w, r, errBusy)
			return
		}
		defer leave()
		page(w, r)
	}
}

// enter takes one of a number of places. ok is false if there is none, or the handler is closed.
func (h *Handler) enter(places chan struct{}) (leave func(), ok bool) {
	if h.closing.Err() != nil {
		return nil, false
	}
	select {
	case places <- struct{}{}:
		return func() { <-places }, true
	default:
		return nil, false
	}
}

// known says whether the process is known by a host.
func (h *Handler) known(host string) bool { return slices.Contains(h.o.Hosts, host) }
