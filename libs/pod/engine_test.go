//go:build !foundationdb

package pod

import (
	"errors"
	"strings"
	"testing"
)

func TestNoEngine(t *testing.T) {
	c := DefaultConfig()
	c.ListenClientURLs = []string{"http://127.0.0.1:0"}
	c.WatchHubEndpoints, c.LeaseKeeperEndpoints = []string{"h:1"}, []string{"l:1"}
	_, err := Open(t.Context(), KV, c, Deps{})
	if !errors.Is(err, errNoFoundationDB) || !strings.Contains(err.Error(), "-tags foundationdb") || !strings.Contains(err.Error(), "--store=foundationdb") {
		t.Error(err)
	}
}
