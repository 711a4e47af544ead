package server

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
)

// Operators is a server for operators. It serves gRPC, and over HTTP/1 what shows the whole process. Whoever can
// connect to its sockets may do everything. A server of NewViewers shows only the status page.
type Operators struct {
	grpc    *grpc.Server
	http    *http.Server
	waiting *waitingRoom
	log     *slog.Logger

	mu        sync.Mutex
	listeners []Private
	closed    bool
	wg        sync.WaitGroup
}

// NewOperators returns a server that serves g and, from o, the status page, the metrics, and the paths below /debug/.
func NewOperators(g *grpc.Server, o HTTPOptions) *Operators {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesMax}))
	installDebug(mux, o.Pprof)
	return newOperators(g, mux, o)
}

// NewViewers returns a server that serves the status page of o, and nothing else.
func NewViewers(o HTTPOptions) *Operators {
	return newOperators(grpc.NewServer(), http.NewServeMux(), o)
}

func newOperators(g *grpc.Server, mux *http.ServeMux, o HTTPOptions) *Operators {
	if o.Status != nil {
		mux.Handle(o.StatusPath, withCaller(o.Status))
		mux.Handle("GET /{$}", http.RedirectHandler(o.StatusPath, http.StatusFound))
	}
	waiting := newWaitingRoom(o.Log)
	return &Operators{grpc: g, http: newHTTPServer(mux, waiting), waiting: waiting, log: o.Log}
}

// Serve starts to serve l and returns at once. Stop closes l.
func (s *Operators) Serve(l Private) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.Close()
		return
	}
	s.listeners = append(s.listeners, l)
	split := newSplitter(l.Listener, l.layer(), s.waiting, s.log)
	for _, serve := range []func() error{
		split.serve,
		func() error { return s.grpc.Serve(split.http2) },
		func() error { return s.http.Serve(split.http1) },
	} {
		s.wg.Go(func() {
			err := serve()
			if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) &&
				!errors.Is(err, grpc.ErrServerStopped) {
				s.log.Error("operators are no longer served", "address", l.Addr().String(), "error", err)
			}
		})
	}
}

// Stop closes the sockets and ends what is under way. It returns when nothing is served any more.
func (s *Operators) Stop() {
	s.mu.Lock()
	s.closed = true
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	s.grpc.Stop()
	s.http.Close()
	s.waiting.close()
	s.wg.Wait()
}
