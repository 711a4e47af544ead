package main

import (
	"os"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/shared"
)

func main() { os.Exit(compose.Main(compose.LeaseKeeper, shared.Parts())) }
