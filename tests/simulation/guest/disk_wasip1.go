package main

import (
	"log/slog"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// disk is of the native host only: Pebble does not build for WebAssembly.
type disk struct{}

func (w *world) newDisk(*pod) *disk { return nil }

func (d *disk) open(string, []byte, revlog.Codec, *slog.Logger) (compose.History, error) {
	panic("there are no disks")
}

func (d *disk) crash() {}

var diskFaults []fault
