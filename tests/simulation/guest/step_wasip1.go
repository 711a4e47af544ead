package main

// stepWallClock has the wall clock jump by some nanoseconds. Timers, and the monotonic clock, do not notice.
//
//go:wasmimport simulation step_wall_clock
func stepWallClock(by int64)
