package robustness

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

var (
	durationFlag = flag.Duration("duration", 8*time.Second, "how long the traffic of each profile goes on")
	seedFlag     = flag.Uint64("seed", 0, "seed of all random choices; 0 picks one")
	targetFlag   = flag.String("target", defaultTarget(),
		"server to test: headwater, pods (the distributed form) or etcd")
	artifactsFlag = flag.String("artifacts", "",
		"directory for what is left of failed runs; a temporary one by default")
)

// defaultTarget is the standalone server, or pods in a run on FoundationDB.
func defaultTarget() string {
	if testengine.Chosen() == testengine.FoundationDB {
		return "pods"
	}
	return "headwater"
}

// TestFoundationDB reports whether this run uses a FoundationDB cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }

func TestMain(m *testing.M) {
	pods.ServeChild()
	flag.Parse()
	code := m.Run()
	hw.Cleanup()
	os.Exit(leaktest.Code(code, testengine.IgnoreThreads()))
}

// seed returns the seed to use and prints it.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return s
}
