package tlsconf

import (
	"testing"

	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
