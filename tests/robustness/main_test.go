package robustness

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/tests/internal/hw"
	"go.uber.org/goleak"
)

var (
	durationFlag  = flag.Duration("duration", 8*time.Second, "how long the traffic of each profile goes on")
	seedFlag      = flag.Uint64("seed", 0, "seed of all random choices; 0 picks one")
	targetFlag    = flag.String("target", "headwater", "server to test: headwater or etcd")
	artifactsFlag = flag.String("artifacts", "", "directory for what is left of failed runs; a temporary one by default")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	hw.Cleanup()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
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
