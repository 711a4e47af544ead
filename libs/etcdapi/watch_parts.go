package etcdapi

import (
	"context"

	"google.golang.org/grpc/mem"

	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wire"
)

// apart says that values of the message have to be read before they are sent.
func (m *watchMessage) apart() bool {
	for _, ev := range m.events {
		if ev.Apart(m.r.PrevKV) {
			return true
		}
	}
	return false
}

// parts are those of a message, made as they are wanted: the head of the message, with room for a prefix before it, and
// events, of which there may be very many.
type parts struct {
	events []*watch.Event // to come
	prevKV bool
	made   []watch.Part
}

// parts returns the parts of a message, and its size.
func (e *watchEncoder) parts(m watchMessage) (p *parts, size int) {
	head := e.appendHead(make([]byte, wire.PrefixBytes, wire.PrefixBytes+maxWatchHead), m)
	size = len(head) - wire.PrefixBytes
	for _, ev := range m.events {
		size += ev.WireLen(m.r.PrevKV)
	}
	wire.PutPrefix(head, size)
	return &parts{events: m.events, prevKV: m.r.PrevKV, made: []watch.Part{{Bytes: head}}}, size
}

// next returns the next parts, of limit bytes unless one is larger; none: that was all.
func (p *parts) next(limit int) (piece []watch.Part, size int) {
	for n := 0; ; {
		for ; n < len(p.made); n++ {
			l := p.made[n].Len()
			if n > 0 && size+l > limit {
				piece, p.made = p.made[:n:n], p.made[n:]
				return piece, size
			}
			size += l
		}
		if len(p.events) == 0 {
			piece, p.made = p.made, nil
			return piece, size
		}
		p.made = append(p.made, p.events[0].Parts(p.prevKV)...)
		p.events = p.events[1:]
	}
}

// sendParts sends a message of which values are not in memory: its length first, then piece by piece what is read for
// it. Nothing of it is held that has been written, or is not yet to be. If a value cannot be read any more, the stream
// ends in the middle of the message, of which its client then sees nothing.
func (t *turnSender) sendParts(ctx context.Context, m watchMessage) error {
	if err := t.flush(); err != nil {
		return err
	}
	p, size := t.svc.enc.parts(m)
	if size > answerMax {
		return errAnswerLarge
	}
	if t.svc.count != nil {
		t.svc.count(1, size)
	}
	for left := wire.PrefixBytes + size; left > 0; {
		if err := t.enter(ctx); err != nil {
			return err
		}
		piece, bytes := p.next(t.hub.TurnBytes())
		if bytes == 0 {
			return watch.ErrValueGone // an event has become shorter than it was
		}
		left -= bytes
		if err := t.hub.Fill(ctx, piece); err != nil {
			return err
		}
		if t.inside {
			t.turn.Charge(int64(bytes))
		}
		t.leave() // the client may hold up the write
		if err := t.writer.Write(take(piece)); err != nil {
			return err
		}
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
	p, size := t.svc.enc.parts(m)
	if size > answerMax {
		return nil, errAnswerLarge
	}
	all, _ := p.next(size + wire.PrefixBytes)
	all[0].Bytes = all[0].Bytes[wire.PrefixBytes:]
	if err := t.hub.Fill(ctx, all); err != nil {
		return nil, err
	}
	return encoded(take(all)), nil
}
