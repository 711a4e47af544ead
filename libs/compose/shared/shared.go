// Package shared has what pods share: FoundationDB and NATS. They are parts from which a pod is composed. The package
// is separate from package compose, so that only pods link them.
//
// # Invariants
//
//   - FoundationDB's client, and with it cgo, is linked only with the build tag foundationdb. Without the tag a pod
//     builds and parses its flags, but refuses to start and says how to build one.
//
// # Concurrency
//
// Parts may be used by several servers of a process.
//
// # Testing
//
// It is tested here without FoundationDB, and in libs/engine/foundationdb and tests/stack with it.
package shared

import (
	"fmt"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/bus/nats"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
)

// Parts returns the parts that open the store of --store, and NATS. Errors name the flag.
func Parts() compose.Parts { return compose.Parts{OpenEngine: open, OpenBus: openBus} }

func open(c config.Config, o compose.EngineOptions) (engine.Store, error) {
	if err := c.FDBTLS.Check(); err != nil {
		return nil, err
	}
	s, err := openEngine(c, o)
	if err != nil {
		return nil, fmt.Errorf("--store=%s: %w", c.Store, err)
	}
	return s, nil
}

func openBus(c config.Config, o compose.BusOptions) (bus.Bus, error) {
	n := c.NATS
	who := nats.Credentials{
		User:         n.User,
		PasswordFile: n.PasswordFile,
		TokenFile:    n.TokenFile,
		NkeyFile:     n.NkeyFile,
		CredsFile:    n.CredsFile,
	}
	var certificates nats.Certificates
	if o.TLS != nil { // a nil of another type would not be nil
		certificates = o.TLS
	}
	more, err := who.Options(certificates, o.Log)
	if err != nil {
		return nil, err
	}
	return nats.Connect(c.NATSURL, nats.Options{Name: o.Name, Logger: o.Log, NATS: more})
}
