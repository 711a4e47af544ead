package nats

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/headwaterdb/headwater/libs/bus"
)

// Limits and times.
const (
	// DefaultPrefix is the default beginning of all subjects.
	DefaultPrefix = "headwater"
	// QueueBytes bounds the bytes of frames that wait for the sender.
	QueueBytes = 32 << 20
	// MessageBytes bounds a message, unless the server's payload limit is lower. It is large enough that sending costs
	// little per entry, and small enough that the first entries of a long frame do not wait for the last.
	MessageBytes = 256 << 10
	// PendingMessages and PendingBytes bound the messages of one subscription that have arrived and were not taken yet.
	PendingMessages = 64 << 10
	PendingBytes    = 64 << 20
	// NudgeEvery is the shortest time between two nudges of this bus, for all keyspaces together. The first nudge goes
	// at once, and those that come within NudgeEvery become one.
	NudgeEvery = 500 * time.Microsecond

	// reconnectBytes is what nats.go buffers while there is no connection: nothing. Hubs read the log in that time, so
	// the buffered frames would be of no use, and the payload limit of the next server is not known.
	reconnectBytes = -1
	// ReconnectWait and ReconnectJitter are the pause between attempts to connect to one server.
	ReconnectWait   = 250 * time.Millisecond
	ReconnectJitter = 250 * time.Millisecond
	// ConnectTimeout bounds one attempt, and WriteTimeout one write to the network. The process sends a ping every
	// PingEvery. If PingsLost pings get no answer, the connection is closed.
	ConnectTimeout = 2 * time.Second
	WriteTimeout   = 5 * time.Second
	PingEvery      = 5 * time.Second
	PingsLost      = 2
	// CloseWait bounds how long Close waits for frames to be sent.
	CloseWait = time.Second
)

// Options configure a Bus. The zero value of each field means its default.
type Options struct {
	// Name is the name of this connection in NATS.
	Name string
	// Prefix begins all subjects. Clusters that share a NATS need different prefixes. It must be a valid beginning of a
	// subject.
	Prefix string
	Logger *slog.Logger
	// NATS are further options for nats.go: TLS, credentials. They come last.
	NATS []nats.Option
}

// Bus is a bus.Bus over core NATS. Make one with Connect.
type Bus struct {
	prefix  string
	log     *slog.Logger
	connect func() (*nats.Conn, error)
	conn    atomic.Pointer[nats.Conn] // changes under subsMu

	mu         sync.Mutex
	closed     bool
	queue      []*bus.Frame
	queueBytes int
	nudged     map[string]struct{}

	// subsMu may be held for as long as nats.go takes to write. It is never held together with mu.
	subsMu sync.Mutex
	subs   map[*subscription]struct{} // nil when closed

	work  chan struct{} // capacity 1: there is something for the sender
	lost  chan struct{} // capacity 1: nats.go has given up its connection
	stop  chan struct{}
	wg    sync.WaitGroup
	count counters
}

var _ bus.Bus = (*Bus)(nil)

// Connect returns a bus over the NATS servers of a comma-separated list of URLs. It does not wait for a connection:
// NATS may be down and come later. It fails only if the URLs or options are invalid.
func Connect(urls string, o Options) (*Bus, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Bus{
		prefix: o.Prefix, log: o.Logger,
		nudged: map[string]struct{}{}, subs: map[*subscription]struct{}{},
		work: make(chan struct{}, 1), lost: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	options := append(b.options(o.Name), o.NATS...)
	b.connect = func() (*nats.Conn, error) { return nats.Connect(urls, options...) }
	conn, err := b.connect()
	if err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	b.conn.Store(conn)
	b.wg.Go(b.send)
	b.wg.Go(b.keep)
	return b, nil
}

func (b *Bus) options(name string) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(ReconnectWait), nats.ReconnectJitter(ReconnectJitter, ReconnectJitter),
		nats.ReconnectBufSize(reconnectBytes),
		nats.Timeout(ConnectTimeout), nats.FlusherTimeout(WriteTimeout),
		nats.PingInterval(PingEvery), nats.MaxPingsOutstanding(PingsLost),
		nats.ConnectHandler(func(c *nats.Conn) { b.log.Info("NATS connected", "url", c.ConnectedUrlRedacted()) }),
		nats.ReconnectHandler(func(c *nats.Conn) {
			b.count.reconnects.Add(1)
			b.log.Info("NATS connected again", "url", c.ConnectedUrlRedacted())
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("NATS disconnected", "error", err)
			}
		}),
		nats.ClosedHandler(func(*nats.Conn) { signal(b.lost) }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			b.log.Warn("NATS reports an error", "error", err, "subject", subject)
		}),
	}
}

// Connected says whether there is a connection now.
func (b *Bus) Connected() bool { return b.conn.Load().IsConnected() }

// Publish is as in bus.Bus.
func (b *Bus) Publish(f *bus.Frame) error {
	if len(f.Keyspace) > bus.KeyspaceMax {
		return bus.ErrKeyspace
	}
	size := bus.Size(f)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return bus.ErrClosed
	case b.queueBytes > 0 && b.queueBytes+size > QueueBytes:
		b.count.refused.Add(1)
		return bus.ErrFull
	}
	b.queue = append(b.queue, f)
	b.queueBytes += size
	signal(b.work)
	return nil
}

// Nudge is as in bus.Bus.
func (b *Bus) Nudge(keyspace string) {
	if len(keyspace) > bus.KeyspaceMax {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, waits := b.nudged[keyspace]; waits || b.closed {
		return
	}
	b.nudged[keyspace] = struct{}{}
	signal(b.work)
}

// Close sends the frames that wait, for up to CloseWait, and ends the connection and all subscriptions.
func (b *Bus) Close() error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	b.mu.Unlock()
	if !first {
		b.wg.Wait()
		return nil
	}
	close(b.stop)
	late := time.AfterFunc(CloseWait, func() { b.conn.Load().Close() })
	b.wg.Wait()
	conn := b.conn.Load()
	if conn.IsConnected() {
		// The error says that frames are lost, which is allowed.
		_ = conn.FlushTimeout(CloseWait)
	}
	late.Stop()
	conn.Close()
	b.subsMu.Lock()
	subs := b.subs
	b.subs = nil
	b.subsMu.Unlock()
	for s := range subs {
		s.end()
	}
	return nil
}

// keep makes a new connection when nats.go has closed its own. nats.go does that after errors that it does not know.
func (b *Bus) keep() {
	for {
		select {
		case <-b.lost:
			if !b.conn.Load().IsClosed() {
				continue // the loss was reported twice
			}
			b.log.Warn("NATS connection closed", "error", b.conn.Load().LastError())
		case <-b.stop:
			return
		}
		select {
		case <-time.After(ReconnectWait):
		case <-b.stop:
			return
		}
		if err := b.renew(); err != nil {
			b.log.Warn("no connection to NATS can be made", "error", err)
			signal(b.lost)
		}
	}
}

func (b *Bus) renew() error {
	conn, err := b.connect()
	if err != nil {
		return err
	}
	b.count.reconnects.Add(1)
	b.subsMu.Lock()
	defer b.subsMu.Unlock()
	b.conn.Store(conn)
	for s := range b.subs {
		b.count.dropped.Add(s.droppedLocked())
		if err := s.attach(conn); err != nil {
			conn.Close()
			return err
		}
	}
	return nil
}

// signal leaves a token in a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// counters count since Connect.
type counters struct {
	sent, sentBytes, references, failed, refused, nudges atomic.Uint64
	received, receivedBytes, malformed, dropped          atomic.Uint64
	reconnects                                           atomic.Uint64
}
