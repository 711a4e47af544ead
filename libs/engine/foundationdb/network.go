//go:build foundationdb

package foundationdb

import (
	"errors"
	"fmt"
	"sync"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
)

// apiVersion is the version of FoundationDB's API that the package is written for.
const apiVersion = 730

// network is the state that a process has once: the client library's options, and its databases by cluster file.
var network struct {
	mu      sync.Mutex
	options *networkOptions // nil: not set up yet
}

// networkOptions are the options that hold for a whole process.
type networkOptions struct {
	tls      TLS
	traceDir string
}

// errNetworkOptions means that two stores of a process have different network options.
var errNetworkOptions = errors.New("foundationdb: TLS and TraceDir must be the same for all stores of a process")

// database returns the handle of a cluster file. The first call of a process sets up the client library.
func database(o *Options) (fdb.Database, error) {
	network.mu.Lock()
	defer network.mu.Unlock()
	want := networkOptions{o.TLS, o.TraceDir}
	switch {
	case network.options == nil:
		if err := fdb.APIVersion(apiVersion); err != nil {
			return fdb.Database{}, fmt.Errorf("foundationdb: API version %d: %w", apiVersion, err)
		}
		if err := want.set(); err != nil {
			return fdb.Database{}, err
		}
		network.options = &want
	case *network.options != want:
		return fdb.Database{}, errNetworkOptions
	}
	db, err := fdb.OpenDatabase(o.ClusterFile) // keeps one handle per file, unlocked
	if err != nil {
		return db, fmt.Errorf("foundationdb: cluster file %q: %w", o.ClusterFile, err)
	}
	return db, nil
}

func (n *networkOptions) set() error {
	o := fdb.Options()
	for _, opt := range []struct {
		name, value string
		set         func(string) error
	}{
		{"TLS certificate", n.tls.CertFile, o.SetTLSCertPath},
		{"TLS password", n.tls.Password, o.SetTLSPassword},
		{"TLS key", n.tls.KeyFile, o.SetTLSKeyPath},
		{"TLS CA", n.tls.CAFile, o.SetTLSCaPath},
		{"TLS peers", n.tls.VerifyPeers, func(v string) error { return o.SetTLSVerifyPeers([]byte(v)) }},
		{"trace directory", n.traceDir, o.SetTraceEnable},
	} {
		if opt.value == "" {
			continue
		}
		if err := opt.set(opt.value); err != nil {
			return fmt.Errorf("foundationdb: %s: %w", opt.name, err)
		}
	}
	return nil
}
