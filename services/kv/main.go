package main

import (
	"os"

	"github.com/headwaterdb/headwater/libs/pod"
	"github.com/headwaterdb/headwater/services/kv/node"
)

func main() { os.Exit(pod.Main(pod.KV, node.Start)) }
