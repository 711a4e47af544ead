package compose

import "runtime"

// heapFloor is the number of bytes that the garbage collector counts in addition to a pod's heap. A pod holds little
// between requests. Under load the collector, which runs when the heap has doubled, would run a dozen times per second
// and take about a tenth of a kv pod's CPU (a profile of 9,000 creates per second). With the floor, the heap grows by
// at least that much before each run.
const heapFloor = 64 << 20

// raiseHeap sets the floor until release is called. It reserves memory that it never touches, so that the system gives
// none for it. The price is garbage that is collected later: at most heapFloor bytes, and as much again as live. GOGC
// and GOMEMLIMIT work as always, except that they count the floor.
func raiseHeap() (release func()) {
	floor := make([]byte, heapFloor)
	return func() { runtime.KeepAlive(&floor[0]) }
}
