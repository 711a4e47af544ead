package main

import (
	"os"

	"github.com/headwaterdb/headwater/libs/pod"
	"github.com/headwaterdb/headwater/services/watchhub/node"
)

func main() { os.Exit(pod.Main(pod.WatchHub, node.Start)) }
