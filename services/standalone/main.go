package main

import (
	"os"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/embedded"
	"github.com/headwaterdb/headwater/libs/config"
)

func main() { os.Exit(compose.Main(config.Standalone, embedded.Parts(0))) }
