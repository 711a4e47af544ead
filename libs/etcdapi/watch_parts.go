package etcdapi

import (
	"context"

	"google.golang.org/grpc/mem"

	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wire"
)

// maxPartsWrite is how much of a message with values that are not in memory is read and written at a time, unless one
// value is larger.
const maxPartsWrite = 1 << 20

// apart says that values of the message have to be read before they are sent.
func (m *watchMessage) apart() bool {
	for _, ev := range m.events {
		if ev.Apart(m.r.PrevKV) {
			return true
		}
	}
	return false
}

// parts returns the message in parts, of which the first is its head, with room for a prefix before it, and its size.
func (e *watchEncoder) parts(m watchMessage) (parts []watch.Part, size int) {
	head := e.appendHead(make([]byte, wire.PrefixBytes, wire.PrefixBytes+maxWatchHead), m)
	parts = append(parts, watch.Part{Bytes: head})
	for _, ev := range m.events {
		parts = append(parts, ev.Parts(m.r.PrevKV)...)
	}
	for i := range parts {
		size += parts[i].Len()
	}
	return parts, size - wire.PrefixBytes
}

// sendParts sends a message of which values are not in memory: its length first, then piece by piece what is read for
// it. Nothing of it is held that has been written. If a value cannot be read any more, the stream ends in the middle of
// the message, of which its client then sees nothing.
func (t *turnSender) sendParts(ctx context.Context, m watchMessage) error {
	if err := t.flush(); err != nil {
		return err
	}
	parts, size := t.svc.enc.parts(m)
	wire.PutPrefix(parts[0].Bytes, size)
	if t.svc.count != nil {
		t.svc.count(1, size)
	}
	for len(parts) > 0 {
		n, bytes := 1, parts[0].Len()
		for n < len(parts) && bytes+parts[n].Len() <= maxPartsWrite {
			bytes += parts[n].Len()
			n++
		}
		if err := t.enter(ctx); err != nil {
			return err
		}
		if err := t.hub.Fill(ctx, parts[:n]); err != nil {
			return err
		}
		data := take(parts[:n])
		if t.inside {
			t.turn.Charge(int64(bytes))
		}
		t.leave() // the client may hold up the write
		if err := t.writer.Write(data); err != nil {
			return err
		}
		parts = parts[n:]
	}
	return nil
}

// take moves what has been read out of parts.
func take(parts []watch.Part) mem.BufferSlice {
	data := make(mem.BufferSlice, len(parts))
	for i := range parts {
		data[i] = mem.SliceBuffer(parts[i].Bytes)
		parts[i] = watch.Part{}
	}
	return data
}

// whole reads all of a message for a transport that takes messages as a whole, as one that compresses them does.
func (t *turnSender) whole(ctx context.Context, m watchMessage) (encoded, error) {
	parts, _ := t.svc.enc.parts(m)
	parts[0].Bytes = parts[0].Bytes[wire.PrefixBytes:]
	if err := t.hub.Fill(ctx, parts); err != nil {
		return nil, err
	}
	return encoded(take(parts)), nil
}
