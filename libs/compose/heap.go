package compose

import "runtime"

// heapFloor is how many bytes the garbage collector believes a pod to hold at least. A pod holds little between
// requests; under load the collector, which runs when the heap has doubled, would run a dozen times per second, and
// takes about a tenth of a kv pod's CPU then (a profile of 9,000 creates per second). With the floor the heap grows
// by so much before each run.
const heapFloor = 64 << 20

// raiseHeap sets the floor until release is called: by memory that is reserved and never touched, so that the system
// gives none for it. What it costs is the garbage that is collected later, at most heapFloor bytes and as much again
// as live. GOGC and GOMEMLIMIT work as always, but for the floor in what they count.
func raiseHeap() (release func()) {
	floor := make([]byte, heapFloor)
	return func() { runtime.KeepAlive(&floor[0]) }
}
