package etcdapi

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wire"
)

const (
	// maxWatchWrite is the size from which on responses do not share a write with others. A client that does not read
	// holds up one write, and what the transport takes in addition (64 KiB).
	maxWatchWrite = 64 << 10
	// copyEventBelow is the size below which it is cheaper to copy an event than to share it.
	copyEventBelow = 128
)

// turnSender sends the responses of one stream, as many as possible in one write.
type turnSender struct {
	svc    *watchService
	hub    *watch.Stream
	turn   Turn                // nil: nothing is shared
	inside bool                // it has a turn
	writer *wire.MessageWriter // nil: each message is sent alone
	out    writeBuffer
	one    func(watchMessage) error // takes a message
}

// newTurnSender returns the sender of a stream whose calls end with ctx.
func newTurnSender(
	ctx context.Context, svc *watchService, s *watch.Stream, stream grpc.ServerStream,
) *turnSender {
	t := &turnSender{svc: svc, hub: s, turn: svc.turn, writer: wire.NewMessageWriter(stream)}
	t.one = func(m watchMessage) error {
		switch apart := m.apart(); {
		case apart && t.writer == nil:
			whole, err := t.whole(ctx, m)
			if err != nil {
				return err
			}
			return stream.SendMsg(whole)
		case apart:
			return t.sendParts(ctx, m)
		case t.writer == nil:
			return stream.SendMsg(svc.enc.encode(m))
		}
		return t.add(m)
	}
	return t
}

// Turn is a service's part in something that several services share, such as a fair.Flow. Costs are bytes.
type Turn interface {
	// Enter waits for a turn that costs least, or up to most. After it Leave is called. Errors: the context's.
	Enter(ctx context.Context, least, most int64) (got int64, err error)
	Leave()
	// Charge says that a turn has cost more.
	Charge(cost int64)
}

// writeCost is what a write costs in addition to its bytes.
const writeCost = 1 << 10

// enter waits for the turn to make a write. If each message is sent alone there are no turns, because a client may hold
// up any message.
func (t *turnSender) enter(ctx context.Context) error {
	if t.turn == nil || t.writer == nil {
		return nil
	}
	_, err := t.turn.Enter(ctx, writeCost, writeCost)
	t.inside = err == nil
	return err
}

func (t *turnSender) leave() {
	if t.inside {
		t.inside = false
		t.turn.Leave()
	}
}

// send sends a turn, and reports it to the hub and to the metrics.
func (t *turnSender) send(ctx context.Context, turn []watch.Response) error {
	if t.svc.sent == nil {
		return t.sendAll(ctx, turn)
	}
	var events, control, progress int
	first, last := int64(math.MaxInt64), int64(0)
	for i := range turn { // before sending, because the hub reuses what has been sent
		switch r := &turn[i]; {
		case len(r.Events) > 0:
			events += len(r.Events)
			first, last = min(first, r.Events[0].Rev()), max(last, r.Events[len(r.Events)-1].Rev())
		case r.Created || r.Canceled:
			control++
		default:
			progress++
		}
	}
	begin := time.Now()
	err := t.sendAll(ctx, turn)
	if err == nil {
		t.svc.sent(time.Since(begin), events, control, progress)
		if t.svc.delivered != nil && events > 0 {
			t.svc.delivered(first, last)
		}
	}
	return err
}

func (t *turnSender) sendAll(ctx context.Context, turn []watch.Response) error {
	told := 0
	for i := range turn {
		if t.writer != nil {
			t.out.expect(len(turn) - i)
		}
		if err := t.svc.enc.split(&turn[i], t.svc.maxFragment, t.one); err != nil {
			return err
		}
		if t.writer != nil {
			// What was sent in parts has ended the turn.
			if n := t.out.size; 0 < n && n < maxWatchWrite && i < len(turn)-1 {
				continue
			}
			if err := t.flush(); err != nil {
				return err
			}
		}
		t.hub.Sent(turn[told : i+1])
		told = i + 1
		if i < len(turn)-1 {
			if err := t.enter(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// add adds a message to the write. If the write is full, it is sent, and another one begins.
func (t *turnSender) add(m watchMessage) error {
	if t.out.size >= maxWatchWrite {
		if err := t.flush(); err != nil {
			return err
		}
	}
	t.out.add(t.svc.enc, m)
	return nil
}

func (t *turnSender) flush() error {
	if t.out.messages == 0 {
		t.leave()
		return nil
	}
	data, messages := t.out.take()
	if t.svc.count != nil {
		t.svc.count(messages, data.Len()-messages*wire.PrefixBytes)
	}
	if t.inside {
		t.turn.Charge(int64(data.Len()))
	}
	t.leave() // the client may hold up the write
	return t.writer.Write(data)
}

// writeBuffer collects whole messages for one write. Nothing in it is reused, because the transport keeps what it is
// given until it is sent, which may be never. A stream whose client does not read holds heads of its own, and events
// that others hold too.
type writeBuffer struct {
	data     mem.BufferSlice
	text     []byte            // heads and small events
	open     int               // where the part of text begins that is not in data yet
	parts    []mem.SliceBuffer // what data holds of text, so that not each part is an allocation
	size     int
	messages int
	last     int // messages of the last write
}

// headGuess is the usual size of a head with its prefix.
const headGuess = 56

// expect is called before messages are added. At least that many will come.
func (b *writeBuffer) expect(messages int) {
	if b.messages > 0 {
		return
	}
	n := min(messages, max(b.last, 1)) // as many as the last time, when they had the same size
	b.text = make([]byte, 0, n*headGuess)
	b.parts = make([]mem.SliceBuffer, 0, n)
	b.data = make(mem.BufferSlice, 0, 2*n)
	b.open = 0
}

func (b *writeBuffer) add(e *watchEncoder, m watchMessage) {
	at := len(b.text)
	b.text = append(b.text, make([]byte, wire.PrefixBytes)...)
	b.text = e.appendHead(b.text, m)
	size := len(b.text) - at - wire.PrefixBytes
	for _, ev := range m.events {
		size += ev.Wire(m.r.PrevKV).Len()
	}
	wire.PutPrefix(b.text[at:], size)
	for _, ev := range m.events {
		w := ev.Wire(m.r.PrevKV)
		if w.Len() < copyEventBelow {
			for _, part := range w {
				b.text = append(b.text, part.ReadOnlyData()...)
			}
			continue
		}
		b.seal()
		b.data = append(b.data, w...)
	}
	b.size += wire.PrefixBytes + size
	b.messages++
}

// seal moves what is new in text to data.
func (b *writeBuffer) seal() {
	if b.open == len(b.text) {
		return
	}
	if len(b.parts) == cap(b.parts) {
		b.parts = make([]mem.SliceBuffer, 0, max(2*cap(b.parts), 1)) // those in data stay where they are
	}
	b.parts = append(b.parts, b.text[b.open:len(b.text):len(b.text)])
	b.data = append(b.data, &b.parts[len(b.parts)-1])
	b.open = len(b.text)
}

// take returns what has been collected and empties the buffer.
func (b *writeBuffer) take() (data mem.BufferSlice, messages int) {
	b.seal()
	data, messages = b.data, b.messages
	*b = writeBuffer{last: messages}
	return data, messages
}
