//go:build headwater_simulation

package main

import _ "unsafe" // for go:linkname

// stepWallClock has the wall clock jump by some nanoseconds. Timers, and the monotonic clock, do not notice. The
// changed runtime has it.
//
//go:linkname stepWallClock runtime.simulation_stepWallClock
func stepWallClock(by int64)
