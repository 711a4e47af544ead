package snapshot_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testengine.IgnoreThreads()) }
