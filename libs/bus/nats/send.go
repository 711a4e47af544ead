package nats

import (
	"time"

	"github.com/headwaterdb/headwater/libs/bus"
)

// send is the sender. It publishes frames and nudges until the bus is closed, and then those that are left.
func (b *Bus) send() {
	var buf []byte
	var nudgedAt time.Time
	pause := time.NewTimer(0)
	defer pause.Stop()
	for stopped := false; !stopped; {
		select {
		case <-b.work:
		case <-pause.C:
		case <-b.stop:
			stopped = true
		}
		// Nudges come first, because somebody may be waiting for them.
		if wait := NudgeEvery - time.Since(nudgedAt); wait > 0 && !stopped {
			pause.Reset(wait)
		} else if b.sendNudges() {
			nudgedAt = time.Now()
		}
		buf = b.sendFrames(buf)
	}
}

// sendNudges publishes one nudge for each keyspace that has been nudged. It says whether there was any.
func (b *Bus) sendNudges() bool {
	b.mu.Lock()
	nudged := b.nudged
	if len(nudged) == 0 {
		b.mu.Unlock()
		return false
	}
	b.nudged = map[string]struct{}{}
	b.mu.Unlock()
	for keyspace := range nudged {
		if err := b.conn.Load().Publish(b.nudgeSubject(keyspace), nil); err != nil {
			b.count.failed.Add(1)
			continue
		}
		b.count.nudges.Add(1)
	}
	return true
}

// sendFrames publishes the frames that wait. buf is memory for messages; nats.go copies them.
func (b *Bus) sendFrames(buf []byte) []byte {
	b.mu.Lock()
	queue := b.queue
	b.queue, b.queueBytes = nil, 0
	b.mu.Unlock()
	for _, f := range queue {
		for part := range bus.Split(f, b.messageBytes()) {
			buf = bus.Append(buf[:0], part)
			if err := b.conn.Load().Publish(b.frameSubject(part.Keyspace), buf); err != nil {
				b.count.failed.Add(1)
				continue
			}
			b.count.sent.Add(1)
			b.count.sentBytes.Add(uint64(len(buf)))
			for _, p := range part.Entries {
				if p.Bytes == nil {
					b.count.references.Add(1)
				}
			}
		}
	}
	return buf
}

// messageBytes is the size of the largest message that may be sent now. If the server's limit is below what Split
// needs, nats.go refuses messages.
func (b *Bus) messageBytes() int {
	limit := int(b.conn.Load().MaxPayload())
	if limit <= 0 {
		limit = MessageBytes
	}
	return max(bus.LimitMin, min(limit, MessageBytes))
}
