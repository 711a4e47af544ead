package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/grpclog"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/server"
)

// Node is a service that serves; *Server is one.
type Node interface {
	URL() string
	// Drain stops serving in order. Close closes everything. Failed returns a channel that gets the reason why the node
	// can no longer serve.
	Drain(ctx context.Context)
	Close() error
	Failed() <-chan error
}

// starter starts a service as Start does.
type starter func(context.Context, config.Kind, config.Config, Parts) (Node, error)

// Exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

// Main runs a service of kind k as a process. It reads the command line and the environment, and starts the service
// from parts. It stops the service on SIGINT or SIGTERM (a second signal ends the process at once), or when the service
// fails. It returns the exit code.
func Main(k config.Kind, parts Parts) int {
	if k.IsPod() {
		defer raiseHeap()()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	parsed, err := k.Parse(os.Args[1:], os.Environ())
	switch {
	case err != nil:
	case parsed.Help:
		fmt.Fprint(os.Stdout, k.Usage())
		return exitOK
	case parsed.Version:
		fmt.Fprint(os.Stdout, server.VersionText(etcdapi.EmulatedVersion))
		return exitOK
	default:
		err = run(ctx, k, parsed, parts, start, os.Stdout, os.Stderr)
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", k.Program(), oneLine(err))
	var usage config.UsageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// oneLine writes joined errors, which may repeat one another, in one line.
func oneLine(err error) string {
	lines := strings.Split(err.Error(), "\n")
	slices.Sort(lines[1:])
	return strings.Join(slices.Compact(lines), "; ")
}

// start is Start.
func start(ctx context.Context, k config.Kind, c config.Config, p Parts) (Node, error) {
	s, err := Start(ctx, k, c, p)
	if err != nil && !k.IsPod() {
		err = damagedStart(c.Dir(), err)
	}
	if err != nil {
		return nil, err // a nil *Server would not be a nil Node
	}
	return s, nil
}

// damagedStart turns the error of a start that has met damaged data into what the engine says when it refuses a damaged
// file: the file, and what an operator can do. The engine finds some damage while it opens, and some only when the
// start reads rows. Other errors, also the engine's own refusals, stay as they are.
func damagedStart(dir string, err error) error {
	var cause string
	switch damage, ok := errors.AsType[*engine.Damage](err); {
	case ok && damage.File != "":
		return fmt.Errorf("data directory %s: corrupt: %s is damaged (%w); put the file back, or the whole directory "+
			"from one copy", dir, damage.File, damage.Err)
	case ok:
		cause = damage.Err.Error()
	case errors.Is(err, mvcc.ErrCorrupt):
		cause = oneLine(err)
	default:
		return err
	}
	return fmt.Errorf("data directory %s: corrupt: data in it is damaged (%s); put the whole directory back from one "+
		"copy", dir, cause)
}

func run(
	ctx context.Context, k config.Kind, p config.Parsed, parts Parts, start starter, stdout, stderr io.Writer,
) (err error) {
	c := p.Config
	log, closeLog, err := server.NewLogger(c.LogOptions(), stdout, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	// The client learns the error of its call. Discard gRPC's own log of such errors, which every client could fill.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	begin := time.Now()
	logStart(log, k, c)
	p.Log(log)
	if c.NATSURL == "" && k == config.WatchHub {
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
	stopping := notifyReady(log, n)
	if !k.IsPod() {
		return runOwn(ctx, log, n, stopping)
	}
	select {
	case <-ctx.Done():
		stopping()
		n.Drain(context.Background())
	case err = <-n.Failed():
		stopping()
		err = fmt.Errorf("stopped: %w", err)
	}
	return ended(log, err, n.Close())
}

// logStart logs what starts.
func logStart(log *slog.Logger, k config.Kind, c config.Config) {
	what := []any{
		"headwater-version", server.Version, "etcd-version", etcdapi.EmulatedVersion, "name", c.Name, "pid",
		os.Getpid(),
	}
	if k.IsPod() {
		what = append(what, "keyspace", c.Keyspace)
	} else {
		what = append(what, "data-dir", c.Dir())
	}
	log.Info("starting "+k.Program(), what...)
}

// logServing logs what serves.
func logServing(log *slog.Logger, n Node, begin time.Time) {
	took := time.Since(begin).String()
	s, ok := n.(*Server)
	if !ok || s.Kind.IsPod() {
		log.Info("ready", "url", n.URL(), "took", took)
		return
	}
	log.Info("opened", "data-dir", s.Config.Dir(), "took", took, "revision", s.opened,
		"cluster-id", fmt.Sprintf("%x", s.Header.ClusterID), "member-id", fmt.Sprintf("%x", s.Header.MemberID))
}

// runOwn runs a service with a store of its own to its end. Serving ends first, so that closing gets the whole time.
func runOwn(ctx context.Context, log *slog.Logger, n Node, stopping func()) (err error) {
	select {
	case <-ctx.Done():
	case err = <-n.Failed():
	}
	stopping()
	n.Drain(context.Background())
	return ended(log, err, closeWithin(server.CloseGrace, n.Close))
}

// ended returns the error of a process that was served until why (nil: a signal), and whose closing returned closing.
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

// errStillClosing: the process ends before its store is closed. Nothing that was acknowledged is lost.
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
