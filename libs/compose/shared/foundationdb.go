//go:build foundationdb

package shared

import (
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/foundationdb"
)

func openEngine(c config.Config, o compose.EngineOptions) (engine.Store, error) {
	t := c.FDBTLS
	return foundationdb.Open(foundationdb.Options{
		ClusterFile: c.FDBClusterFile, Logger: o.Log, OnFailure: o.OnFailure,
		TLS: foundationdb.TLS{CertFile: t.CertFile, KeyFile: t.KeyFile, CAFile: t.CAFile, VerifyPeers: t.VerifyPeers},
	})
}
