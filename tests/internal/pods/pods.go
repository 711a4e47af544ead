package pods

import (
	"context"

	"github.com/headwaterdb/headwater/libs/pod"
	kv "github.com/headwaterdb/headwater/services/kv/node"
	leasekeeper "github.com/headwaterdb/headwater/services/leasekeeper/node"
	watchhub "github.com/headwaterdb/headwater/services/watchhub/node"
)

// Kinds are all kinds of pods.
var Kinds = []pod.Kind{pod.KV, pod.WatchHub, pod.LeaseKeeper}

// Start starts a pod of kind k and returns when it is ready, or why it cannot be. The caller must Close it.
func Start(ctx context.Context, k pod.Kind, c pod.Config, d pod.Deps) (pod.Node, error) {
	switch k {
	case pod.KV:
		return notNil(kv.Start(ctx, c, d))
	case pod.WatchHub:
		return notNil(watchhub.Start(ctx, c, d))
	}
	return notNil(leasekeeper.Start(ctx, c, d))
}

// notNil makes an interface of n that is nil if there is no node.
func notNil[N pod.Node](n N, err error) (pod.Node, error) {
	if err != nil {
		return nil, err
	}
	return n, nil
}
