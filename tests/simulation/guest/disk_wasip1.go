package main

import "github.com/headwaterdb/headwater/libs/compose"

// disk is of the native host only: Pebble does not build for WebAssembly.
type disk struct{}

func (w *world) newDisk(*pod) *disk { return nil }

func (d *disk) attach(*compose.Parts) {}

func (d *disk) crash() {}

var diskFaults []fault
