package mvcc_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/headwaterdb/headwater/libs/leaktest"
)

// ignoredLeak is a function whose goroutine lives as long as the process; "": none.
var ignoredLeak string

func TestMain(m *testing.M) {
	var o []goleak.Option
	if ignoredLeak != "" {
		o = append(o, goleak.IgnoreAnyFunction(ignoredLeak))
	}
	leaktest.Main(m, o...)
}
