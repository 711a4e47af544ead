package watch

import (
	"context"
	"sync"
	"time"
)

// Stream is one client's stream of watches. The goroutine that reads requests calls Create, Cancel and RequestProgress.
// The goroutine that sends responses calls Next, Sent and Release. Any goroutine may call Close, once. After that the
// other methods have no effect.
type Stream struct {
	streamState // guarded by hub.mu

	hub    *Hub
	ctx    context.Context // ends when the stream has to
	wake   chan struct{}   // capacity 1: there may be something to take
	room   chan struct{}   // capacity 1: the control queue has room again
	closed chan struct{}
}

// Open starts a stream. It fails with ErrStopped or ErrTooManyStreams.
func (h *Hub) Open() (*Stream, error) { return h.OpenOn(nil) }

// OpenOn is Open for a stream of a client's connection, whose streams share limits. conn is any comparable value that
// identifies the connection; nil: there are no such limits. It also fails with ErrTooManyStreamsPerConn.
func (h *Hub) OpenOn(conn any) (*Stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.stopped || h.core == nil:
		return nil, ErrStopped
	case h.opts.MaxStreams > 0 && len(h.core.streams) >= h.opts.MaxStreams:
		return nil, ErrTooManyStreams
	}
	s := &Stream{
		hub:    h,
		ctx:    h.streamsCtx,
		wake:   make(chan struct{}, 1),
		room:   make(chan struct{}, 1),
		closed: make(chan struct{}),
	}
	// Take the slot that was just served. So the first notification of a new stream comes nearly an interval later, as
	// in etcd.
	s.slot = h.core.slot
	if !h.core.connect(s, conn) {
		return nil, ErrTooManyStreamsPerConn
	}
	h.core.open(s)
	h.watched.Store(true)
	return s, nil
}

// Create adds a watch. If the request is wrong, the client learns that in a response. The error is that of ctx, of
// reading the head, or ErrStopped or ErrClosed.
func (s *Stream) Create(ctx context.Context, r CreateRequest) error {
	if err := s.awaitRoom(ctx); err != nil {
		return err
	}
	head, err := s.hub.head.get(ctx)
	if err != nil {
		return err
	}
	if s.access != nil {
		if err := s.access.Ready(ctx); err != nil {
			return err
		}
	}
	compact := s.hub.log.CompactRevision()
	return s.do(func(c *core) { c.create(s, r, head, compact) })
}

// Cancel ends a watch. The client gets a response if there was one.
func (s *Stream) Cancel(ctx context.Context, id int64) error {
	if err := s.awaitRoom(ctx); err != nil {
		return err
	}
	return s.do(func(c *core) { c.cancel(s, id, max(c.position, s.hub.applied.Load())) })
}

// RequestProgress asks for a notification for all watches of the stream. Its revision is not below any revision
// acknowledged before the call. As in etcd, none is sent if a watch of the stream is not synced or has not started.
func (s *Stream) RequestProgress(ctx context.Context) error {
	head, err := s.hub.head.get(ctx)
	if err != nil {
		return err
	}
	return s.do(func(c *core) { c.requestProgress(s, head) })
}

// do runs f on the core if the stream is open.
func (s *Stream) do(f func(*core)) (err error) {
	s.hub.locked(func() {
		select {
		case <-s.closed:
			err = ErrClosed
		default:
			f(s.hub.core)
		}
	})
	return err
}

// awaitRoom waits while too many responses to earlier requests have not been sent.
func (s *Stream) awaitRoom(ctx context.Context) error {
	for {
		full := false
		if err := s.do(func(*core) { full = s.controls.len() >= maxQueuedControls }); err != nil || !full {
			return err
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return ErrStopped
		case <-s.closed:
			return ErrClosed
		}
	}
}

// Next waits until there is something to send, and returns it in the order in which it must be sent. The turn belongs
// to the caller until Release. Next fails with ErrStopped when the hub drains or is interrupted, with ErrClosed after
// Close, or with ctx's error.
func (s *Stream) Next(ctx context.Context) ([]Response, error) {
	for {
		if s.ctx.Err() != nil {
			return nil, ErrStopped
		}
		turn := getTurn()
		err := s.do(func(c *core) { turn = c.take(s, turn) })
		if len(turn) > 0 {
			signal(s.room)
			return turn, nil
		}
		s.Release(turn) // a stream that waits holds no turn
		if err != nil {
			return nil, err
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.ctx.Done():
			return nil, ErrStopped
		case <-s.closed:
			return nil, ErrClosed
		}
	}
}

// turns are empty slices for turns. All streams share them, because most streams wait.
var turns sync.Pool

// maxKeptTurn is the number of responses up to which a turn's slice is reused.
const maxKeptTurn = 1024

func getTurn() []Response {
	if turn, ok := turns.Get().(*[]Response); ok {
		return *turn
	}
	return nil
}

// Release gives back a turn from Next. The turn, and pointers into it, must not be used afterwards. Its events stay
// valid.
func (s *Stream) Release(turn []Response) {
	clear(turn) // their events may go
	if cap(turn) > 0 && cap(turn) <= maxKeptTurn {
		turn = turn[:0]
		turns.Put(&turn)
	}
}

// Sent reports that responses have been given to the transport.
func (s *Stream) Sent(responses []Response) {
	onSent := s.hub.opts.OnSent
	if onSent == nil {
		return
	}
	var now, at time.Duration
	events := 0
	flush := func() {
		if events == 0 {
			return
		}
		if now == 0 {
			now = time.Since(s.hub.birth)
		}
		onSent(events, now-at)
	}
	for i := range responses {
		r := &responses[i]
		oldest := r.oldest()
		if oldest == 0 {
			continue
		}
		if oldest != at {
			flush()
			at, events = oldest, 0
		}
		events += len(r.Events)
	}
	flush()
}

// Close removes the stream and its watches.
func (s *Stream) Close() {
	s.hub.mu.Lock()
	select {
	case <-s.closed:
		s.hub.mu.Unlock()
		return
	default:
		close(s.closed)
	}
	s.hub.mu.Unlock()
	for done := false; !done; {
		s.hub.locked(func() { done = s.hub.core.closeSome(s, lockChunk) })
	}
}
