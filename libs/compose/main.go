package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/server"
)

// Node is a service that serves; *Server is one.
type Node interface {
	URL() string
	// Drain stops serving in order, Close closes everything. Failed gets the reason why the node can no longer serve.
	Drain(ctx context.Context)
	Close() error
	Failed() <-chan error
}

// starter starts a service as Start does.
type starter func(context.Context, Kind, Config, Parts) (Node, error)

// Main is the process of a service of kind k: it parses the command line, starts the service, and stops it when the process is told
// to or the service fails. It returns the exit code.
func Main(k Kind, parts Parts) int {
	if k.shared() {
		defer raiseHeap()()
	}
	c := DefaultConfig()
	return Program(k, &c).Main(etcdapi.EmulatedVersion, func(ctx context.Context, p server.Parsed, stdout, stderr io.Writer) error {
		c.Config = p.Config
		start := func(ctx context.Context, k Kind, c Config, ps Parts) (Node, error) {
			return notNil(Start(ctx, k, c, ps))
		}
		return run(ctx, k, c, p, parts, start, stdout, stderr)
	})
}

// notNil makes an interface of s that is nil if there is no service.
func notNil(s *Server, err error) (Node, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func run(ctx context.Context, k Kind, c Config, p server.Parsed, parts Parts, start starter, stdout, stderr io.Writer) (err error) {
	if err := c.Validate(k); err != nil {
		return server.UsageError(err.Error())
	}
	log, closeLog, err := server.NewLogger(c.Config, stdout, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	begin := time.Now()
	logStart(log, k, c)
	p.Log(log)
	if c.NATSURL == "" && k == WatchHub {
		log.Warn("no --nats-url: this pod follows the log in the store by itself")
	}
	parts.Log = log
	n, err := start(ctx, k, c, parts)
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting
		}
		return err
	}
	logServing(log, n, begin)
	if !k.shared() {
		return runOwn(ctx, log, n)
	}
	select {
	case <-ctx.Done():
		n.Drain(context.Background())
	case err = <-n.Failed():
		err = fmt.Errorf("stopped: %w", err)
	}
	return ended(log, err, n.Close())
}

// logStart writes down what starts.
func logStart(log *slog.Logger, k Kind, c Config) {
	what := []any{"headwater-version", server.Version, "etcd-version", etcdapi.EmulatedVersion, "name", c.Name, "pid", os.Getpid()}
	if k.shared() {
		what = append(what, "keyspace", c.Keyspace)
	} else {
		what = append(what, "data-dir", c.Dir())
	}
	log.Info("starting "+k.program(), what...)
}

// logServing writes down what serves.
func logServing(log *slog.Logger, n Node, begin time.Time) {
	took := time.Since(begin).String()
	s, ok := n.(*Server)
	if !ok || s.Kind.shared() {
		log.Info("ready", "url", n.URL(), "took", took)
		return
	}
	log.Info("opened", "data-dir", s.Config.Dir(), "took", took, "revision", s.opened,
		"cluster-id", fmt.Sprintf("%x", s.Header.ClusterID), "member-id", fmt.Sprintf("%x", s.Header.MemberID))
}

// runOwn runs a service with a store of its own to its end. Serving ends first, so that closing has all of its time.
func runOwn(ctx context.Context, log *slog.Logger, n Node) (err error) {
	select {
	case <-ctx.Done():
	case err = <-n.Failed():
	}
	n.Drain(context.Background())
	return ended(log, err, closeWithin(server.CloseGrace, n.Close))
}

// ended is how the process ends that was served until why (nil: it was told to stop) and closed with the error closing.
func ended(log *slog.Logger, why, closing error) error {
	if errors.Is(closing, errStillClosing) {
		log.Warn("the store takes long to close; the next start reads its log again, as after a crash")
		return why
	}
	err := errors.Join(why, closing)
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// errStillClosing says that the process ends before its store is closed. Nothing that was acknowledged is lost by that.
var errStillClosing = errors.New("the store is still being closed")

// closeWithin calls closeAll and does not wait for it longer than d.
func closeWithin(d time.Duration, closeAll func() error) error {
	done := make(chan error, 1)
	go func() { done <- closeAll() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		return errStillClosing
	}
}
