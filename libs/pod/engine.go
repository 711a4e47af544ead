//go:build !foundationdb

package pod

import (
	"errors"
	"log/slog"

	"github.com/headwaterdb/headwater/libs/engine"
)

// errNoFoundationDB tells how to get a binary that has what this one has not.
var errNoFoundationDB = errors.New("this binary was built without FoundationDB's client; take the container image, or build with: CGO_ENABLED=1 go build -tags foundationdb (FoundationDB's client package 7.3 must be installed)")

// OpenEngine opens the store that c names. fail is called if it fails for good later.
func OpenEngine(_ Config, _ *slog.Logger, _ func(error)) (engine.Store, error) {
	return nil, errNoFoundationDB
}
