package stack

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// HomeEnv is the name of the environment variable with the directory of a FoundationDB that is not installed from
// packages.
const HomeEnv = "FDB_HOME"

// errNoFoundationDB is the error for users without FoundationDB.
var errNoFoundationDB = errors.New(
	`the distributed form needs FoundationDB 7.3 (fdbserver, fdbcli, libfdb_c.so, headers), which is not here.
Install its server and client packages (github.com/apple/foundationdb/releases), or set FDB_HOME to a directory with
bin, lib and include.
There is no replacement for it: pods on any other store would be another system. For one process without it, see
make run`,
)

// Flags parses a command line for a stack, finds FoundationDB and nginx, and builds the other programs. own adds flags
// of the caller.
func Flags(name string, handling flag.ErrorHandling, args []string, out io.Writer,
	own ...func(*flag.FlagSet),
) (Config, error) {
	f := flag.NewFlagSet(name, handling)
	f.SetOutput(out)
	var cfg Config
	f.StringVar(&cfg.Dir, "dir", "data/stack", "directory for data and logs")
	f.IntVar(&cfg.Port, "port", 2379, "port for etcd clients, on 127.0.0.1")
	f.IntVar(&cfg.BasePort, "base-port", 23790, "first of the ports for everything else")
	f.StringVar(&cfg.Keyspace, "keyspace", "default", "keyspace to serve")
	home := f.String("fdb-home", os.Getenv(HomeEnv), "directory with FoundationDB's bin, lib and include; default: $"+
		HomeEnv+", or where its packages put them")
	f.StringVar(&cfg.RouterConfig, "router-config", "deploy/nginx.conf.template", "template of nginx's configuration")
	for _, add := range own {
		add(f)
	}
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	cfg.Report = out
	var err error
	if cfg.FoundationDB, err = FindFoundationDB(*home); err != nil {
		return cfg, fmt.Errorf("%w\n(%w)", errNoFoundationDB, err)
	}
	if cfg.Nginx, err = FindNginx(); err != nil {
		return cfg, fmt.Errorf("nginx is needed (apt-get install nginx): %w", err)
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return cfg, err
	}
	bin := filepath.Join(cfg.Dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return cfg, err
	}
	fmt.Fprintln(out, "building the pods and nats-server …")
	cfg.Programs, err = Build(bin, cfg.FoundationDB)
	return cfg, err
}
