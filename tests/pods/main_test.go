package pods

import (
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m, testengine.IgnoreThreads()) }

// TestFoundationDB reports whether this run uses a FoundationDB cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }
