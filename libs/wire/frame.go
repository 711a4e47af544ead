package wire

import "google.golang.org/grpc/mem"

// Frame is a message that stays encoded: what a relay receives and sends on without looking into it. Receiving holds a
// reference to gRPC's own buffers, sending gives it away; nothing is copied. The zero value is an empty message. A
// Frame is used by one goroutine at a time.
type Frame struct{ data mem.BufferSlice }

// set takes a reference to data.
func (f *Frame) set(data mem.BufferSlice) {
	f.Free()
	data.Ref()
	f.data = data
}

// take gives the reference away.
func (f *Frame) take() mem.BufferSlice {
	d := f.data
	f.data = nil
	return d
}

// Free gives the buffers back if they have not been sent.
func (f *Frame) Free() { f.take().Free() }
