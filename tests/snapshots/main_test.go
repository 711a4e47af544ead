package snapshots

import (
	"os"
	"testing"

	"github.com/headwaterdb/headwater/tests/internal/hw"
)

func TestMain(m *testing.M) {
	code := m.Run()
	hw.Cleanup()
	os.Exit(code)
}
