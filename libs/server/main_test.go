package server

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain looks for goroutines that are left. lumberjack leaves one for each file, for good.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}
