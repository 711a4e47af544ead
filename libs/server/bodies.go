package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/headwaterdb/headwater/libs/timing"
)

// Limits of requests whose header has come and whose body has not. Streams that clients send on (watches,
// keep-alives) are none: they may be silent for ever, and what they have sent of a message is bounded by its size and
// the number of streams.
const (
	// bodyTimeout and bodyRate say how long a body may take: so long, and as long as the largest takes at that rate.
	// Together 60 s for a request of default size, which a link of 35 kB/s makes.
	bodyTimeout = 28 * time.Second
	bodyRate    = 64 << 10 // bytes/s
	// bodyBytesMax bounds the memory of bodies that are on their way; bodiesMin is how many of the largest always
	// find room.
	bodyBytesMax = 128 << 20
	bodiesMin    = 8
	// bodyAgeMin is the age from which a body may be ended for want of memory, bodyAgeSlow that from which each
	// counts as one of the largest size.
	bodyAgeMin  = 50 * time.Millisecond
	bodyAgeSlow = 2 * time.Second
	// bodySweep is the time between two looks at their ages, bodyPause between two looks at their memory, so that
	// what has been ended has given it back.
	bodySweep = time.Second
	bodyPause = time.Millisecond
)

// Why a body is ended. gRPC answers DeadlineExceeded for both: of an end that comes from the server's side it knows
// no other code.
var (
	errBodyTimeout = errors.New("the request's body did not come in time")
	errBodyMemory  = errors.New("the bodies on their way take too much memory")
)

// bodies holds the requests whose bodies are on their way, the oldest first. Its methods may be called from any
// goroutine.
type bodies struct {
	messageMax int64 // bytes of one
	timeout    time.Duration
	bytesMax   int64
	slowMax    int // bodies older than bodyAgeSlow
	pool       *countedPool

	mu          sync.Mutex
	first, last *body
}

// body is the context of a request, and its place among the bodies while its own is on its way.
type body struct {
	context.Context
	cancel     context.CancelCauseFunc
	prev, next *body
	began      time.Time
	stages     timing.Stages
}

// bodyKey finds the body in a request's context.
type bodyKey struct{}

// Err implements context.Context.
func (b *body) Err() error {
	err := b.Context.Err()
	if cause := context.Cause(b.Context); errors.Is(cause, errBodyTimeout) || errors.Is(cause, errBodyMemory) {
		return context.DeadlineExceeded
	}
	return err
}

// Value implements context.Context.
func (b *body) Value(key any) any {
	switch key {
	case bodyKey{}:
		return b
	case timing.Key{}:
		return &b.stages
	}
	return b.Context.Value(key)
}

// newBodies bounds bodies of at most messageMax bytes.
func newBodies(messageMax int) *bodies {
	b := &bodies{
		messageMax: int64(max(messageMax, 1)),
		timeout:    bodyTimeout + time.Duration(messageMax)*time.Second/bodyRate,
		bytesMax:   max(bodyBytesMax, bodiesMin*int64(messageMax)),
	}
	b.slowMax = int(b.bytesMax / b.messageMax)
	b.pool = &countedPool{BufferPool: mem.DefaultBufferPool(), bytesMax: b.bytesMax, over: make(chan struct{}, 1)}
	return b
}

// expect returns the context for a request whose body can be ended.
func (l *bodies) expect(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	return &body{Context: ctx, cancel: cancel}
}

// receive calls receive, which waits for the body of ctx's request and puts it into v. It returns when the body had
// come.
func (l *bodies) receive(ctx context.Context, receive func(v any) error, v any) (came time.Time, err error) {
	b, ok := ctx.Value(bodyKey{}).(*body)
	if !ok { // not through the tap: a call within the process
		err = receive(v)
		return time.Now(), err
	}
	l.enter(b)
	defer l.leave(b)
	err = receive(v)
	came = time.Now()
	b.stages.Add(timing.Receiving, came.Sub(b.began))
	return came, err
}

func (l *bodies) enter(b *body) {
	b.began = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b.prev = l.last
	if b.prev != nil {
		b.prev.next = b
	} else {
		l.first = b
	}
	l.last = b
}

func (l *bodies) leave(b *body) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(b)
}

// remove takes b out if it is in. l.mu is held.
func (l *bodies) remove(b *body) {
	if l.first != b && b.prev == nil {
		return
	}
	if b.prev != nil {
		b.prev.next = b.next
	} else {
		l.first = b.next
	}
	if b.next != nil {
		b.next.prev = b.prev
	} else {
		l.last = b.prev
	}
	b.prev, b.next = nil, nil
}

// endOldest ends the oldest body if it is older than age; it tells whether it was.
func (l *bodies) endOldest(now time.Time, age time.Duration, why error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.first
	if b == nil || now.Sub(b.began) < age {
		return false
	}
	l.remove(b)
	b.cancel(why)
	return true
}

// slow counts the bodies older than bodyAgeSlow, up to one more than may be.
func (l *bodies) slow(now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for b := l.first; b != nil && n <= l.slowMax && now.Sub(b.began) >= bodyAgeSlow; b = b.next {
		n++
	}
	return n
}

// run enforces the limits until ctx ends.
func (l *bodies) run(ctx context.Context) {
	ticker := time.NewTicker(bodySweep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for l.endOldest(now, l.timeout, errBodyTimeout) {
			}
			for l.slow(now) > l.slowMax && l.endOldest(now, bodyAgeSlow, errBodyMemory) {
			}
		case <-l.pool.over:
			for l.endExcess(time.Now()) {
				time.Sleep(bodyPause)
			}
		}
	}
}

// endExcess ends as many bodies as must go, each of which holds a message at most; it tells whether there were any.
func (l *bodies) endExcess(now time.Time) bool {
	n := int64(0)
	for excess := l.pool.bytes.Load() - l.bytesMax; n*l.messageMax < excess && l.endOldest(now, bodyAgeMin, errBodyMemory); {
		n++
	}
	return n > 0
}

// countedPool counts the bytes of the buffers that are in use. Frames of less than 1 KiB do not come from it
// (bodyAgeSlow bounds bodies that consist of them).
type countedPool struct {
	mem.BufferPool
	bytesMax int64
	bytes    atomic.Int64
	over     chan struct{} // filled when there are too many
}

// Get implements mem.BufferPool.
func (p *countedPool) Get(n int) *[]byte {
	b := p.BufferPool.Get(n)
	if p.bytes.Add(int64(cap(*b))) > p.bytesMax {
		select {
		case p.over <- struct{}{}:
		default:
		}
	}
	return b
}

// Put implements mem.BufferPool.
func (p *countedPool) Put(b *[]byte) {
	p.bytes.Add(-int64(cap(*b)))
	p.BufferPool.Put(b)
}

// firstMessage is a stream on which the client sends one message, its request.
type firstMessage struct {
	grpc.ServerStream
	bodies *bodies
	came   bool
}

// RecvMsg implements grpc.ServerStream.
func (s *firstMessage) RecvMsg(m any) error {
	if s.came {
		return s.ServerStream.RecvMsg(m)
	}
	s.came = true
	_, err := s.bodies.receive(s.Context(), s.ServerStream.RecvMsg, m)
	return err
}
