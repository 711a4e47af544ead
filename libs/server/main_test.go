package server

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/headwaterdb/headwater/libs/leaktest"
)

// TestMain looks for goroutines that are left. lumberjack leaves one for each file, for good.
func TestMain(m *testing.M) {
	leaktest.Main(m, goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}
