package cluster

import (
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/tests/internal/podfaults"
)

// badDays are faults that each pod meets by itself, beside the real conflicts with other pods. They are the errors of a
// FoundationDB cluster in trouble, at a higher rate.
var badDays = faults.Options{
	Recent: true, Conflict: 0.03, UnknownLost: 0.02, UnknownCommitted: 0.02, TooOld: 0.001, Unavailable: 0.0002,
}

type (
	gate = podfaults.Gate
	view = podfaults.View
)

func newView(shared engine.Store, g *gate, seed uint64) *view {
	o := badDays
	o.Seed = seed
	return podfaults.NewView(testengine.KeepOpen(shared), g, o)
}
