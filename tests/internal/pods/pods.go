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

// Start starts a pod of kind k. It returns when the pod is ready, or with the reason why it cannot be. The caller must
// Close the pod. A part that p lacks is made as the binaries make it.
func Start(ctx context.Context, k config.Kind, c config.Config, p compose.Parts) (compose.Node, error) {
	binary := shared.Parts()
	p.OpenEngine, p.OpenBus, p.OpenHistory = binary.OpenEngine, binary.OpenBus, hubcache.Open
	s, err := compose.Start(ctx, k, c, p)
	if err != nil {
		return nil, err // a typed nil in the interface would not be equal to nil
	}
	return s, nil
}
