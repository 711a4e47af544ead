//go:build !foundationdb

package shared

import (
	"errors"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
)

// errNoFoundationDB says how to get a binary with FoundationDB's client.
var errNoFoundationDB = errors.New(
	"this binary was built without FoundationDB's client; take the container image, or build with: " +
		"CGO_ENABLED=1 go build -tags foundationdb (FoundationDB's client package 7.3 must be installed)",
)

func openEngine(config.Config, compose.EngineOptions) (engine.Store, error) {
	return nil, errNoFoundationDB
}
