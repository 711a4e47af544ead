package memory

import (
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/enginetest"
)

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Engine {
		s := New()
		t.Cleanup(func() { _ = s.Close() })
		return enginetest.Engine{Store: s, Reopen: func(bool) engine.Store { return s }}
	})
}
