package main

import (
	"os"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/embedded"
)

func main() { os.Exit(compose.Main(compose.Standalone, embedded.Parts())) }
