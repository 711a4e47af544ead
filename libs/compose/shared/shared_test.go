package shared

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
)

// TestTLSFiles: a pod looks at the files before it opens the store.
func TestTLSFiles(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	c := config.Default(config.KV)
	c.ListenClientURLs = []string{"http://127.0.0.1:0"}
	c.WatchHubEndpoints, c.LeaseKeeperEndpoints = []string{"h:1"}, []string{"l:1"}
	c.FDBTLS.CAFile = missing
	_, err := compose.Start(t.Context(), config.KV, c, Parts())
	if err == nil || !strings.Contains(err.Error(), "--fdb-tls-ca-file: open "+missing) {
		t.Error(err)
	}
}
