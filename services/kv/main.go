package main

import (
	"os"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/shared"
	"github.com/headwaterdb/headwater/libs/config"
)

func main() { os.Exit(compose.Main(config.KV, shared.Parts())) }
