package pods

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

const (
	// childArg is the first argument of a test binary that has to serve. The engine and a directory for sockets
	// follow, then a pod's flags.
	childArg = "pods"
	// readyText is what the child prints when all its pods serve.
	readyText = "all pods are ready"
	// storeDir is the directory, below its data directory, in which the child keeps the Pebble engine.
	storeDir = "store"
)

// Process is a Deployment with one pod of each kind as a program, which package hw can kill and pause. The program is
// this test binary, started again with another purpose; its TestMain must call ServeChild first. It takes a pod's flags
// and serves everything at one address. Data are in FoundationDB if the run uses it, with a keyspace of its own for
// each data directory. Otherwise they are in Pebble in the data directory. Either outlives the process.
type Process struct {
	hw.Program
	root string
}

// NewProcess prepares the program. With the test it clears what its processes have written to FoundationDB. They must
// have ended by then; processes that hw has started have.
func NewProcess(tb testing.TB) Process {
	tb.Helper()
	path, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	sockets, err := os.MkdirTemp("", "hwpods") //nolint:usetesting // the paths of sockets must be short
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(sockets) })
	p := Process{root: testengine.Root(tb)}
	p.Program = hw.Program{Name: "pods", Path: path, Ready: readyText, Args: func(l hw.Layout) []string {
		return []string{
			childArg, testengine.Chosen(), sockets,
			"--data-dir=" + l.DataDir, "--listen-client-urls=" + l.ClientURL, "--advertise-client-urls=" + l.ClientURL,
			"--fdb-root=" + p.Root(l.DataDir),
		}
	}}
	return p
}

// Root is the --fdb-root of the processes on a data directory.
func (p Process) Root(dataDir string) string { return p.root + filepath.ToSlash(dataDir) + "/" }

// Engine opens the store that a stopped process has left. It is closed with the test.
func (p Process) Engine(tb testing.TB, dataDir string) engine.Store {
	tb.Helper()
	if testengine.Chosen() == testengine.FoundationDB {
		return testengine.OpenCluster(tb)
	}
	s, err := openPebble(dataDir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func openPebble(dataDir string) (engine.Store, error) {
	o := testengine.PebbleOptions(0)
	o.FS = nil // the real one
	return pebble.Open(filepath.Join(dataDir, storeDir), o)
}

// ServeChild does not return in a process that a Process has started. There it serves until SIGTERM.
func ServeChild() {
	if len(os.Args) < 4 || os.Args[1] != childArg {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := serve(ctx, os.Args[2], os.Args[3], os.Args[4:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pods:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve runs one pod of each kind until ctx ends or a pod fails.
func serve(ctx context.Context, engineName, sockets string, args []string) (err error) {
	b := bus.NewLocal()
	defer func() { err = errors.Join(err, b.Close()) }()
	deps := compose.Parts{Bus: b}
	configs := make(map[config.Kind]config.Config)
	for _, k := range Kinds {
		if configs[k], err = childConfig(k, sockets, args); err != nil {
			return err
		}
	}
	if engineName == testengine.Pebble { // else each pod opens a store of its own, as in a deployment
		if deps.Engine, err = openPebble(filepath.Dir(configs[config.WatchHub].DataDir)); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, deps.Engine.Close()) }()
	}
	failed := make(chan error, len(Kinds))
	// The kv pod, which clients talk to, comes last, when the pods that it relays to are there.
	for _, k := range slices.Backward(Kinds) {
		n, err := Start(ctx, k, configs[k], deps)
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		defer func() {
			n.Drain(context.Background())
			err = errors.Join(err, n.Close())
		}()
		go func() { failed <- fmt.Errorf("%s: %w", k, <-n.Failed()) }()
	}
	fmt.Println(readyText)
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// childConfig returns the configuration of the child's pod of a kind. The kv pod has the address in the flags, the
// others have sockets.
func childConfig(k config.Kind, sockets string, args []string) (config.Config, error) {
	// The parser requires endpoints. The real ones, which are known below, replace these.
	for _, other := range Kinds {
		args = append(slices.Clone(args), "--"+string(other)+"-endpoints=unix://"+sockets)
	}
	parsed, err := k.Parse(args, nil)
	if err != nil {
		return config.Config{}, err
	}
	c := parsed.Config
	u, err := url.Parse(c.ListenClientURLs[0])
	if err != nil {
		return c, err
	}
	socket := func(k config.Kind) string { return "unix://" + filepath.Join(sockets, u.Port()+"-"+string(k)) }
	c.KVEndpoints = []string{u.Host}
	c.WatchHubEndpoints, c.LeaseKeeperEndpoints =
		[]string{socket(config.WatchHub)}, []string{socket(config.LeaseKeeper)}
	if k != config.KV {
		c.ListenClientURLs, c.ListenMetricsURLs, c.PodAddress = []string{socket(k)}, nil, socket(k)
	}
	if k == config.WatchHub {
		c.DataDir = filepath.Join(c.DataDir, string(k))
	}
	return c, nil
}
