package main

import (
	"os"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/hubcache"
	"github.com/headwaterdb/headwater/libs/compose/shared"
	"github.com/headwaterdb/headwater/libs/config"
)

func main() {
	parts := shared.Parts()
	parts.OpenHistory = hubcache.Open
	os.Exit(compose.Main(config.WatchHub, parts))
}
