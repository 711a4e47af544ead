package standalone

import (
	"context"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/embedded"
	"github.com/headwaterdb/headwater/libs/config"
)

// closeWithin is how long a store waits for a disk that is busy with other tests.
const closeWithin = 2 * time.Minute

// Start starts a server with the configuration for tests, which change may change; change may be nil. The server ends
// with the test. The test fails if the server does not start or does not end without an error.
func Start(tb testing.TB, change func(*config.Config)) *compose.Server {
	tb.Helper()
	c := config.Default(config.Standalone)
	c.DataDir, c.DiskReserveBytes = tb.TempDir(), -1
	c.ListenClientURLs = []string{"http://127.0.0.1:0"}
	if change != nil {
		change(&c)
	}
	s, err := compose.Start(tb.Context(), config.Standalone, c, embedded.Parts(closeWithin))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.Drain(context.Background())
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}
