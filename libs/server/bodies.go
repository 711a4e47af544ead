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

// Limits of requests whose header has arrived and whose body has not. Streams on which clients send (watches,
// keep-alives) do not count: they may be silent for ever, and what they hold of a message is bounded by its size and
// the number of streams.
const (
	// bodyTimeout and bodyRate bound the time that a body may take: bodyTimeout, and what the largest allowed body
	// takes at bodyRate. That is 60 s for a request of default size, which a link of 35 kB/s can carry.
	bodyTimeout = 28 * time.Second
	bodyRate    = 64 << 10 // bytes/s
	// bodyBytesMax bounds the memory of bodies that are being received. There is always room for bodiesMin of the
	// largest.
	bodyBytesMax = 128 << 20
	bodiesMin    = 8
	// bodyAgeMin is the age from which a body may be ended when memory is short. A body older than bodyAgeSlow counts
	// as one of the largest size.
	bodyAgeMin  = 50 * time.Millisecond
	bodyAgeSlow = 2 * time.Second
	// bodySweep is the time between two checks of the bodies' ages. bodyPause is the time between two checks of their
	// memory, so that an ended body has time to free its own.
	bodySweep = time.Second
	bodyPause = time.Millisecond
)

// Reasons to end a body. gRPC answers DeadlineExceeded for both: it has no other code for an end that comes from the
// server's side.
var (
	errBodyTimeout = errors.New("the request's body did not arrive in time")
	errBodyMemory  = errors.New("the request bodies that are being received take too much memory")
)

// bodies holds the requests whose bodies are being received, the oldest first. Its methods may be called from any
// goroutine.
type bodies struct {
	messageMax int64 // bytes of one
	timeout    time.Duration
	bytesMax   int64
	slowMax    int // bodies older than bodyAgeSlow
	pool       *countedPool

	entered chan struct{} // capacity 1: a body has come, and run does not sweep

	mu          sync.Mutex
	first, last *body
	resting     bool // run does not sweep, because there was no body
}

// body is the context of a request. It has a place among the bodies while its own body is being received.
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

// newBodies returns the bodies of a server that takes messages of at most messageMax bytes.
func newBodies(messageMax int) *bodies {
	b := &bodies{
		messageMax: int64(max(messageMax, 1)),
		timeout:    bodyTimeout + time.Duration(messageMax)*time.Second/bodyRate,
		bytesMax:   max(bodyBytesMax, bodiesMin*int64(messageMax)),
		entered:    make(chan struct{}, 1),
		resting:    true,
	}
	b.slowMax = int(b.bytesMax / b.messageMax)
	b.pool = &countedPool{BufferPool: mem.DefaultBufferPool(), bytesMax: b.bytesMax, over: make(chan struct{}, 1)}
	return b
}

// expect returns the context of a request whose body can be ended.
func (l *bodies) expect(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	return &body{Context: ctx, cancel: cancel}
}

// receive calls receive, which waits for the body of ctx's request and puts it into v. came is when the body arrived.
func (l *bodies) receive(ctx context.Context, receive func(v any) error, v any) (came time.Time, err error) {
	b, ok := ctx.Value(bodyKey{}).(*body)
	if !ok { // a call within the process, which has not passed the tap
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
	if l.resting {
		l.resting = false
		l.entered <- struct{}{}
	}
}

// rest says whether run need not sweep before the next body comes.
func (l *bodies) rest() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resting = l.first == nil
	return l.resting
}

func (l *bodies) leave(b *body) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(b)
}

// remove takes b out of the bodies, if it is one of them. l.mu is held.
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

// endOldest ends the oldest body if it is older than age. It says whether it was.
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

// slow counts the bodies older than bodyAgeSlow. It stops at one more than the limit.
func (l *bodies) slow(now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for b := l.first; b != nil && n <= l.slowMax && now.Sub(b.began) >= bodyAgeSlow; b = b.next {
		n++
	}
	return n
}

// run enforces the limits until ctx ends. A server without requests does not wake up for it.
func (l *bodies) run(ctx context.Context) {
	sweep := time.NewTimer(bodySweep)
	sweep.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.entered:
			sweep.Reset(bodySweep)
		case now := <-sweep.C:
			if !l.rest() {
				sweep.Reset(bodySweep)
			}
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

// endExcess ends as many bodies as the excess needs, each of which holds at most one message. It says whether it ended
// any.
func (l *bodies) endExcess(now time.Time) bool {
	n := int64(0)
	for excess := l.pool.bytes.Load() - l.bytesMax; n*l.messageMax < excess && l.endOldest(now, bodyAgeMin, errBodyMemory); {
		n++
	}
	return n > 0
}

// countedPool counts the bytes of the buffers in use. Frames of less than 1 KiB do not come from it; bodyAgeSlow bounds
// bodies that consist of such frames.
type countedPool struct {
	mem.BufferPool
	bytesMax int64
	bytes    atomic.Int64
	over     chan struct{} // gets a value when there are too many bytes
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
