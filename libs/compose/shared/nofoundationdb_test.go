//go:build !foundationdb

package shared

import (
	"errors"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
)

func TestNoEngine(t *testing.T) {
	c := config.Default(config.KV)
	c.ListenClientURLs = []string{"http://127.0.0.1:0"}
	c.WatchHubEndpoints, c.LeaseKeeperEndpoints = []string{"h:1"}, []string{"l:1"}
	_, err := compose.Start(t.Context(), config.KV, c, Parts())
	if !errors.Is(err, errNoFoundationDB) || !strings.Contains(err.Error(), "-tags foundationdb") ||
		!strings.Contains(err.Error(), "--store=foundationdb") {
		t.Error(err)
	}
}
