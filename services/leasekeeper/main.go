package main

import (
	"os"

	"github.com/headwaterdb/headwater/libs/pod"
	"github.com/headwaterdb/headwater/services/leasekeeper/node"
)

func main() { os.Exit(pod.Main(pod.LeaseKeeper, node.Start)) }
