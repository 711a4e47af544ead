package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// Times of a stop. With CloseGrace they add up to less than 3 s, whatever clients do.
const (
	// DrainGrace is how long the drain function may take to end watch streams.
	DrainGrace = 500 * time.Millisecond
	// StopGrace is how long requests under way may then take to finish. After that, connections are closed.
	StopGrace = time.Second
	// abandonGrace is how long their handlers may take to notice. Handlers that do not notice are left behind.
	abandonGrace = 250 * time.Millisecond
	// CloseGrace is the part of the 3 s in which the stores close.
	CloseGrace = time.Second
)

// Options are the parts of a Server.
type Options struct {
	GRPC *GRPC // with all services registered
	HTTP HTTPOptions
	// Drain ends the streams that would delay a stop, so that their clients resume elsewhere. It is called once, after
	// the listeners have been closed. When it returns, GRPC.Draining ends. It may be nil.
	Drain func(context.Context)
	// OwnReadiness says that the caller calls GRPC.SetServing(true) when the process becomes ready, and
	// SetServing(false) when it is not ready any more. Otherwise Serve reports readiness when it begins. A stop always
	// reports false, for good.
	OwnReadiness bool
	Log          *slog.Logger
}

// Server owns the sockets of a process. Listen opens them, Serve serves them.
type Server struct {
	listeners  []*listener
	advertised []string
}

// Listen opens all URLs of c. Clients that connect wait until Serve. If a URL cannot be opened, none is.
func Listen(ctx context.Context, c Sockets) (*Server, error) {
	ls, err := listenAll(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Server{listeners: ls, advertised: advertised(c, ls)}, nil
}

// AdvertisedURLs returns the client URLs that MemberList shows.
func (s *Server) AdvertisedURLs() []string { return s.advertised }

// URL returns the first client URL, with the port that was bound.
func (s *Server) URL() string { return s.listeners[0].urls[0] }

// PeerURLs returns the URLs that serve other pods, with hosts that can be dialled.
func (s *Server) PeerURLs() (urls []string) {
	for _, l := range s.listeners {
		if l.role == rolePeer {
			urls = append(urls, l.reachable()...)
		}
	}
	return urls
}

// Close closes the sockets of a Server that has not been served.
func (s *Server) Close() { closeAll(s.listeners) }

// Serve serves until ctx ends. It then stops in order and returns nil. If a listener fails, it returns the first error.
// When it is ready, it logs etcd's "ready to serve client requests".
func (s *Server) Serve(ctx context.Context, o Options) error {
	handlers := newHTTP(o.HTTP)
	waiting := newWaitingRoom(o.Log)
	client, metrics := newHTTPServer(handlers.client, waiting), newHTTPServer(handlers.metrics, waiting)

	failed := make(chan error, 1)
	var wg sync.WaitGroup
	run := func(what string, serve func() error) {
		wg.Go(func() {
			// Only stop closes the sockets, so the error of a closed socket is the normal end.
			if err := serve(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) &&
				!errors.Is(err, grpc.ErrServerStopped) {
				select {
				case failed <- fmt.Errorf("serving %s: %w", what, err):
				default: // the first error is enough
				}
			}
		})
	}
	// Messages and order are etcd's: test frameworks and unit files wait for the first.
	o.Log.Info("ready to serve client requests")
	limit := fdMax()
	run("local calls", o.GRPC.serveLocal)
	stopSweep := o.GRPC.sweep()
	defer stopSweep()
	for _, l := range s.listeners {
		guarded := &guard{Listener: l, max: limit, waiting: waiting, log: o.Log}
		serveListener(
			l,
			guarded,
			servers{o.GRPC.server, client, metrics, waiting},
			o.Log,
			func(serve func() error) { run(l.urls[0], serve) },
		)
		l.logServing(o.Log)
	}
	if !o.OwnReadiness {
		o.GRPC.SetServing(true)
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.stop(o, client, metrics)
	waiting.close()
	wg.Wait()
	return err
}

// logServing logs which URL serves what, in etcd's words.
func (l *listener) logServing(log *slog.Logger) {
	for _, u := range l.urls {
		where := []any{"traffic", l.role.String(), "address", l.Addr().String(), "url", u}
		switch {
		case l.role == roleMetrics:
			log.Info("serving metrics", "address", u)
		case l.role == rolePeer:
			log.Info("serving peer traffic", where...)
		case Secure(u):
			log.Info("serving client traffic securely", where...)
		default:
			log.Info("serving client traffic insecurely; this is strongly discouraged!", where...)
		}
	}
}

// stop ends everything, in the order that the package comment describes.
func (s *Server) stop(o Options, servers ...*http.Server) {
	begin := time.Now()
	o.Log.Info("stopping: new connections are refused")
	o.GRPC.health.Shutdown()
	closeAll(s.listeners)
	var wg sync.WaitGroup
	wg.Go(func() { stopGRPC(o) })
	for _, srv := range servers {
		wg.Go(func() { stopHTTP(srv) })
	}
	wg.Wait()
	o.Log.Info("stopped serving", "took", time.Since(begin).String())
}

// stopGRPC first tells clients that their connections take no new streams (GOAWAY), and then drains. So clients do not
// resume their streams on the same connection.
func stopGRPC(o Options) {
	done := background(func() { o.GRPC.stopAll((*grpc.Server).GracefulStop) })
	if o.Drain != nil {
		ctx, cancel := context.WithTimeout(context.Background(), DrainGrace)
		within(DrainGrace, background(func() { o.Drain(ctx) }))
		cancel()
	}
	o.GRPC.drain()
	if within(StopGrace, done) {
		return
	}
	stopped := background(func() { o.GRPC.stopAll((*grpc.Server).Stop) })
	if !within(abandonGrace, done, stopped) {
		o.Log.Warn("some requests still run although their connections are closed, and are left behind")
	}
}

// background calls f and returns a channel that is closed when f has returned.
func background(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

// within waits for all of done, but not longer than d. It says whether all were done.
func within(d time.Duration, done ...<-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for _, c := range done {
		select {
		case <-c:
		case <-timer.C:
			return false
		}
	}
	return true
}

func stopHTTP(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), StopGrace)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		srv.Close()
	}
}
