package main

import (
	"os"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/server"
)

func main() { os.Exit(server.Standalone.Main(etcdapi.EmulatedVersion, serve)) }
