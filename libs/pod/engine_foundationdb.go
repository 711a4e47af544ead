//go:build foundationdb

package pod

import (
	"log/slog"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/foundationdb"
)

// OpenEngine opens the store that c names. fail is called if it fails for good later.
func OpenEngine(c Config, log *slog.Logger, fail func(error)) (engine.Store, error) {
	t := c.FDBTLS
	return foundationdb.Open(foundationdb.Options{
		ClusterFile: c.FDBClusterFile, Logger: log, OnFailure: fail,
		TLS: foundationdb.TLS{CertFile: t.CertFile, KeyFile: t.KeyFile, CAFile: t.CAFile, VerifyPeers: t.VerifyPeers},
	})
}
