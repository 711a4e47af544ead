package feed

import (
	"sync"

	"github.com/headwaterdb/headwater/libs/bus"
)

// inbox holds the frames between the bus and the follower.
type inbox struct {
	arrived chan struct{} // capacity 1: there are frames

	mu     sync.Mutex
	frames []*bus.Frame
	bytes  int
}

// receive is called by the bus.
func (f *Follower) receive(frame *bus.Frame) {
	if !f.inbox.put(frame) {
		f.count.dropped.Add(1)
	}
	signal(f.inbox.arrived)
}

// put adds a frame. It says whether there was room.
func (in *inbox) put(frame *bus.Frame) bool {
	size := bus.Size(frame)
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.frames) > 0 && in.bytes+size > InboxBytes {
		return false
	}
	in.frames = append(in.frames, frame)
	in.bytes += size
	return true
}

// take returns all frames and empties the inbox.
func (in *inbox) take() []*bus.Frame {
	in.mu.Lock()
	defer in.mu.Unlock()
	frames := in.frames
	in.frames, in.bytes = nil, 0
	return frames
}
