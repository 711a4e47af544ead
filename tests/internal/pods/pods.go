package pods

import (
	"context"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/hubcache"
	"github.com/headwaterdb/headwater/libs/compose/shared"
	"github.com/headwaterdb/headwater/libs/config"
)

// Kinds are all kinds of pods.
var Kinds = config.Pods

// Start starts a pod of kind k and returns when it is ready, or why it cannot be. The caller must Close it. What p
// does not give is what the binaries have.
func Start(ctx context.Context, k config.Kind, c config.Config, p compose.Parts) (compose.Node, error) {
	binary := shared.Parts()
	p.OpenEngine, p.OpenBus, p.OpenHistory = binary.OpenEngine, binary.OpenBus, hubcache.Open
	s, err := compose.Start(ctx, k, c, p)
	if err != nil {
		return nil, err // not a Node that is not nil
	}
	return s, nil
}
