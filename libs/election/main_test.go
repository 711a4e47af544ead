package election

import (
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m, testengine.IgnoreThreads()) }

// TestFoundationDB says whether this run has a cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }
