package pod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/server"
)

// Node is a pod that serves, of any kind.
type Node interface {
	URL() string
	// Drain stops serving in order, Close closes everything. Failed gets the reason why the node can no longer serve.
	Drain(ctx context.Context)
	Close() error
	Failed() <-chan error
}

// Main is the process of a pod of kind k: it parses the command line, starts the node, and stops it when the process is told to or
// the node fails. It returns the exit code.
func Main[N Node](k Kind, start func(context.Context, Config, Deps) (N, error)) int {
	defer raiseHeap()()
	c := DefaultConfig()
	return Program(k, &c).Main(etcdapi.EmulatedVersion, func(ctx context.Context, p server.Parsed, stdout, stderr io.Writer) error {
		c.Config = p.Config
		return run(ctx, k, c, p, start, stdout, stderr)
	})
}

func run[N Node](ctx context.Context, k Kind, c Config, p server.Parsed, start func(context.Context, Config, Deps) (N, error), stdout, stderr io.Writer) (err error) {
	if err := c.Validate(k); err != nil {
		return server.UsageError(err.Error())
	}
	log, closeLog, err := server.NewLogger(c.Config, stdout, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	begin := time.Now()
	log.Info("starting headwater-"+string(k), "headwater-version", server.Version, "etcd-version", etcdapi.EmulatedVersion,
		"name", c.Name, "keyspace", c.Keyspace, "pid", os.Getpid())
	p.Log(log)
	if c.NATSURL == "" && k == WatchHub {
		log.Warn("no --nats-url: this pod follows the log in the store by itself")
	}
	n, err := start(ctx, c, Deps{Log: log})
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting
		}
		return err
	}
	log.Info("ready", "url", n.URL(), "took", time.Since(begin).String())
	select {
	case <-ctx.Done():
		n.Drain(context.Background())
	case err = <-n.Failed():
		err = fmt.Errorf("stopped: %w", err)
	}
	err = errors.Join(err, n.Close())
	if err == nil {
		log.Info("stopped")
	}
	return err
}
