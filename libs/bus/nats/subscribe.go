package nats

import (
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/headwaterdb/headwater/libs/bus"
)

// subscription is one subscription. Once end has returned, its callback is not called any more. It may be attached to
// several connections, one after another.
type subscription struct {
	subject string
	f       func(*nats.Msg)

	mu   sync.Mutex // held while f runs
	over bool

	// Guarded by Bus.subsMu.
	sub  *nats.Subscription
	seen uint64 // of sub's dropped messages
}

// attach subscribes on conn.
func (s *subscription) attach(conn *nats.Conn) (err error) {
	s.sub, err = conn.Subscribe(s.subject, s.receive)
	s.seen = 0
	if err == nil {
		err = s.sub.SetPendingLimits(PendingMessages, PendingBytes)
	}
	return err
}

func (s *subscription) receive(m *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.f(m)
	}
}

// end returns when the callback is not running and will not run again.
func (s *subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// droppedLocked returns the number of messages that nats.go has dropped on this connection because the subscription was
// behind.
func (s *subscription) droppedLocked() uint64 {
	if n, err := s.sub.Dropped(); err == nil { // it fails when the connection is closed
		s.seen = uint64(n)
	}
	return s.seen
}

// Subscribe is as in bus.Bus.
func (b *Bus) Subscribe(keyspace string, f func(*bus.Frame)) (cancel func(), err error) {
	if len(keyspace) > bus.KeyspaceMax {
		return nil, bus.ErrKeyspace
	}
	return b.subscribe(b.frameSubject(keyspace), func(m *nats.Msg) {
		b.count.received.Add(1)
		b.count.receivedBytes.Add(uint64(len(m.Data)))
		frame, err := bus.Parse(m.Data)
		if err != nil || frame.Keyspace != keyspace {
			b.count.malformed.Add(1)
			return
		}
		f(frame)
	})
}

// OnNudge is as in bus.Bus.
func (b *Bus) OnNudge(keyspace string, f func()) (cancel func(), err error) {
	if len(keyspace) > bus.KeyspaceMax {
		return nil, bus.ErrKeyspace
	}
	return b.subscribe(b.nudgeSubject(keyspace), func(*nats.Msg) { f() })
}

func (b *Bus) subscribe(subject string, f func(*nats.Msg)) (cancel func(), err error) {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return nil, bus.ErrClosed
	}
	b.subsMu.Lock()
	defer b.subsMu.Unlock()
	if b.subs == nil {
		return nil, bus.ErrClosed
	}
	s := &subscription{subject: subject, f: f}
	// If the connection is closed, keep is about to make a new one, and attaches the subscriptions that exist then.
	if err := s.attach(b.conn.Load()); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return nil, fmt.Errorf("nats: %w", err)
	}
	b.subs[s] = struct{}{}
	return func() { b.cancel(s) }, nil
}

func (b *Bus) cancel(s *subscription) {
	b.subsMu.Lock()
	if _, live := b.subs[s]; live {
		delete(b.subs, s)
		b.count.dropped.Add(s.droppedLocked())
		// It fails only if the connection is closed, and then the subscription has ended too.
		_ = s.sub.Unsubscribe()
	}
	b.subsMu.Unlock()
	s.end()
}

func (b *Bus) frameSubject(keyspace string) string { return b.prefix + ".frames." + token(keyspace) }

func (b *Bus) nudgeSubject(keyspace string) string { return b.prefix + ".nudges." + token(keyspace) }

// token writes a name as one token of a subject. Different names give different tokens.
func token(name string) string {
	const hex = "0123456789ABCDEF"
	if name == "" {
		return "="
	}
	out := make([]byte, 0, len(name))
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			out = append(out, c)
		default:
			out = append(out, '=', hex[c>>4], hex[c&15])
		}
	}
	return string(out)
}
