package cluster

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

var (
	durationFlag  = flag.Duration("cluster.duration", 8*time.Second, "how long the faults go on, at least")
	seedFlag      = flag.Uint64("cluster.seed", 0, "seed of all random choices; 0 picks one")
	artifactsFlag = flag.String("cluster.artifacts", "",
		"directory for what is left of runs; by default that of failed ones goes to a temporary one")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	hw.Cleanup()
	os.Exit(leaktest.Code(code, testengine.IgnoreThreads()))
}

// TestFoundationDB reports whether this run uses a FoundationDB cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }

// seed returns the seed to use and prints it.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-cluster.seed %d", s)
	return s
}
