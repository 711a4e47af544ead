package pods

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testengine.IgnoreThreads()) }

// TestFoundationDB reports whether this run uses a FoundationDB cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }
