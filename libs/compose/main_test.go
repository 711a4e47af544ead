package compose

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testengine.IgnoreThreads()) }

// TestFoundationDB says whether this run has a cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }
