package etcdapi

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/fair"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Limits of answers under way. An answer counts from when its bytes are gathered until the transport has written them.
const (
	// DefaultAnswerBytes is the default of KVOptions.AnswerBytes.
	DefaultAnswerBytes = 512 << 20
	// smallAnswer is the largest size of a small answer: one value of the largest size that a request may put by
	// default. Small answers have additional room of their own, a quarter of that of the others.
	smallAnswer = 2 << 20
	smallRoom   = 4
	// freeAnswer is the size up to which an answer is not counted. A stream costs about as much anyway.
	freeAnswer = 4 << 10
	// answerStep is how many bytes an answer reserves at a time.
	answerStep = 64 << 10
	// answerWait is how long a request waits for room before it is refused.
	answerWait = 10 * time.Second
	// answerMax is the size of the largest message that is sent.
	answerMax = math.MaxInt32
	// collectEvery is how often a request that waits for room runs the collector, which finds answers whose connections
	// have gone.
	collectEvery = time.Second
)

var (
	// errNoRoom ends the gathering of an answer if there is no room now.
	errNoRoom      = errors.New("etcdapi: no room for the answer")
	errAnswerLarge = status.Errorf(
		codes.ResourceExhausted, "trying to send message larger than max (more than %d bytes)", answerMax,
	)
)

// Answers bounds the bytes of answers that are under way. An answer grows as it is gathered, and no answer waits while
// it holds anything. If there is no room, it gives back what it has, stands in line, and is gathered again when it is
// the first in line and twice what it had is free. So no two answers can wait for each other, and half-gathered answers
// do not use up the room. An answer that is larger than the whole room is sent when it has the room to itself.
//
// There are two lines. Small answers have room that large ones cannot take, and wait only for each other.
//
// The keyspaces of a process share the room and have lines of their own. A keyspace holds no more than it leaves free
// for others (fair.Fits), so that answers which clients do not read take nobody else's room.
type Answers struct {
	*room

	// Under mu.
	own   int64
	lines [2][]*place // of large and small answers
}

// room is what the keyspaces of a process share.
type room struct {
	bytes int64

	mu        sync.Mutex
	used      int64
	waiting   map[*Answers]bool // those with lines
	collected time.Time
	shared    func() bool // nil: there is one keyspace
}

// place is the place of a request in a line.
type place struct {
	small bool
	wake  chan struct{}
}

// NewAnswers returns the account of a server's answers, with room for bytes of large answers.
func NewAnswers(bytes int64) *Answers {
	return &Answers{room: &room{bytes: bytes, waiting: make(map[*Answers]bool)}}
}

// Share returns the account of another keyspace in the same room. shared says whether there may be more than one
// keyspace. It is called with the room locked, and is the same for all.
func (a *Answers) Share(shared func() bool) *Answers {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shared = shared
	return &Answers{room: a.room}
}

// Used returns the bytes of answers that are under way, in all keyspaces.
func (a *Answers) Used() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}

func (a *Answers) line(small bool) *[]*place {
	if small {
		return &a.lines[1]
	}
	return &a.lines[0]
}

// limit returns how many bytes may be in use.
func (a *Answers) limit(small bool) int64 {
	if small {
		return a.bytes + a.bytes/smallRoom
	}
	return a.bytes
}

// fits says whether the keyspace may have n bytes more. a.mu is held.
func (a *Answers) fits(n int64, small bool) bool {
	return fair.Fits(a.own, a.used, n, a.limit(small), a.shared != nil && a.shared())
}

func (a *Answers) release(n int64) {
	if n == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used -= n
	a.own -= n
	a.wake()
}

// wake makes the first in each line check whether there is room now. mu is held.
func (r *room) wake() {
	for a := range r.waiting {
		for _, l := range a.lines {
			if len(l) > 0 {
				select {
				case l[0].wake <- struct{}{}:
				default:
				}
			}
		}
	}
}

// answer is an answer that is being gathered. It is used by one goroutine at a time.
type answer struct {
	all   *Answers
	bulk  bool  // it counts as large, whatever it has gathered
	bytes int64 // gathered
	hold  *hold // what it holds; nil: nothing
	place *place
	until time.Time // when it has waited long enough
}

func (w *answer) small() bool { return !w.bulk && w.bytes <= smallAnswer }

// grow is called before n bytes are gathered. Errors: errNoRoom, a status.
func (w *answer) grow(n int) error {
	w.bytes += int64(n)
	if w.bytes > answerMax {
		return errAnswerLarge
	}
	held := w.hold.left()
	if w.bytes <= freeAnswer || w.bytes <= held {
		return nil
	}
	return w.take((w.bytes - held + answerStep - 1) / answerStep * answerStep)
}

func (w *answer) take(n int64) error {
	a := w.all
	a.mu.Lock()
	defer a.mu.Unlock()
	line := *a.line(w.small())
	first := len(line) == 0 || line[0] == w.place
	alone := a.used == w.hold.left()
	if !first || !alone && !a.fits(n, w.small()) {
		return errNoRoom
	}
	a.used += n
	a.own += n
	if w.hold == nil {
		w.hold = newHold(a)
	}
	w.hold.bytes.Add(n)
	return nil
}

// drop gives everything back. The answer is not sent, or is gathered again.
func (w *answer) drop() {
	w.hold.releaseAll()
	w.hold = nil
}

// wait waits, after drop, until there is likely to be room for the answer. Errors: mvcc.ErrTooManyRequests, the
// context's.
func (w *answer) wait(ctx context.Context) error {
	had, small := w.bytes, w.small()
	w.bytes = 0
	w.bulk = !small // it counts as large from now on
	now := time.Now()
	if w.until.IsZero() {
		w.until = now.Add(answerWait)
	}
	timer := time.NewTimer(min(collectEvery, w.until.Sub(now)))
	defer timer.Stop()
	w.stand(small)
	for !w.all.hasRoom(w.place, had) {
		select {
		case <-w.place.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			left := time.Until(w.until)
			if left <= 0 {
				return mvcc.ErrTooManyRequests
			}
			w.all.collect()
			timer.Reset(min(collectEvery, left))
		}
	}
	return nil
}

// stand gives the answer a place in its line, unless it has one.
func (w *answer) stand(small bool) {
	if w.place != nil && w.place.small == small {
		return
	}
	w.leave()
	a := w.all
	a.mu.Lock()
	defer a.mu.Unlock()
	w.place = &place{small: small, wake: make(chan struct{}, 1)}
	line := a.line(small)
	*line = append(*line, w.place)
	a.waiting[a] = true
}

// leave gives up the place in the line. It is called when an answer has been gathered, or will not be.
func (w *answer) leave() {
	if w.place == nil {
		return
	}
	a := w.all
	a.mu.Lock()
	defer a.mu.Unlock()
	line := a.line(w.place.small)
	*line = slices.DeleteFunc(*line, func(p *place) bool { return p == w.place })
	w.place = nil
	if len(a.lines[0])+len(a.lines[1]) == 0 {
		delete(a.waiting, a)
	}
	a.wake()
}

// hasRoom says whether the answer at a place should try again. It had gathered bytes when it found no room. It should
// if twice that is free. If others hold something, which they may always do, then nearly all that the keyspace can have
// is enough, as long as it is more than before.
func (a *Answers) hasRoom(p *place, bytes int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	had, most := bytes+answerStep, a.limit(p.small)
	if a.shared != nil && a.shared() {
		most = most / 2 * 3 / 4
	}
	switch line := *a.line(p.small); {
	case line[0] != p:
		return false
	case a.used == 0:
		return true
	}
	return a.fits(had, p.small) && a.fits(min(2*had, most), p.small)
}

// collect runs the collector, which finds the answers whose connections have gone: see newHold.
func (a *Answers) collect() {
	a.mu.Lock()
	recently := time.Since(a.collected) < collectEvery
	if !recently {
		a.collected = time.Now()
	}
	a.mu.Unlock()
	if !recently {
		runtime.GC()
	}
}

// hold is what an answer holds of the room. When the answer is sent, the hold becomes the pool to which the transport
// gives back the answer's buffers, one after another.
type hold struct {
	*holding
	buffers atomic.Int32
}

// holding is the part of a hold that is needed at its end.
type holding struct {
	all   *Answers
	bytes atomic.Int64
}

// newHold returns an empty hold. The transport gives buffers back when they have been written or their stream has been
// reset, but not when their connection has broken. Then the garbage collector finds the hold and gives back what it
// held.
func newHold(a *Answers) *hold {
	h := &hold{holding: &holding{all: a}}
	runtime.AddCleanup(h, (*holding).releaseAll, h.holding)
	return h
}

func (h *hold) left() int64 {
	if h == nil {
		return 0
	}
	return h.bytes.Load()
}

func (h *hold) releaseAll() {
	if h != nil {
		h.holding.releaseAll()
	}
}

func (h *holding) releaseAll() { h.all.release(h.bytes.Swap(0)) }

// pooledBuffer is the size of the largest buffer that comes from grpc's pool. The pool may give a larger buffer to an
// answer that needs little, which must not hold much.
const pooledBuffer = 1 << 20

func getBuffer(n int) *[]byte {
	if n > pooledBuffer {
		b := make([]byte, n)
		return &b
	}
	return mem.DefaultBufferPool().Get(n)
}

func putBuffer(b *[]byte) {
	if cap(*b) <= pooledBuffer {
		mem.DefaultBufferPool().Put(b)
	}
}

// Get implements mem.BufferPool. Nothing gets buffers there.
func (h *hold) Get(n int) *[]byte { return getBuffer(n) }

// Put implements mem.BufferPool.
func (h *hold) Put(b *[]byte) {
	if h.buffers.Add(-1) == 0 {
		h.releaseAll()
	} else if n := int64(cap(*b)); h.bytes.Add(-n) >= 0 {
		h.all.release(n)
	} else {
		h.bytes.Add(n) // the last buffer gives everything back
	}
	putBuffer(b)
}

// sent makes the answer's buffers give back what the answer holds once they have been written. They must come from
// getBuffer or belong to nobody else.
func (w *answer) sent(into encoded, bufs ...*[]byte) encoded {
	pool := mem.DefaultBufferPool()
	if h := w.hold; h != nil {
		pool = h
		n := 0
		for _, b := range bufs {
			if !mem.IsBelowBufferPoolingThreshold(cap(*b)) { // else no pool is told of it
				n++
			}
		}
		h.buffers.Store(int32(n))
		if n == 0 {
			h.releaseAll()
		}
	}
	for _, b := range bufs {
		into = append(into, mem.NewBuffer(b, pool))
	}
	return into
}

// sentBytes is sent for one buffer that is not from a pool.
func (w *answer) sentBytes(b []byte) encoded {
	if w.hold == nil {
		return encodedBytes(b)
	}
	return w.sent(nil, &b)
}

// answering runs f, which gathers w, again each time there was no room.
func answering(ctx context.Context, w *answer, f func() (encoded, error)) (encoded, error) {
	defer w.leave()
	for {
		e, err := f()
		if err == nil {
			return e, nil
		}
		w.drop()
		if !errors.Is(err, errNoRoom) {
			return nil, err
		}
		if err := w.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// writeAnswer is the answer to a request that writes. A group gathers it, and may go on with that when nobody waits any
// more.
type writeAnswer struct {
	mu    sync.Mutex
	w     answer
	ended bool
}

func (a *Answers) write() *writeAnswer { return &writeAnswer{w: answer{all: a}} }

// grow is an mvcc.Hold.
func (w *writeAnswer) grow(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return context.Canceled
	}
	return w.w.grow(n)
}

// run runs f as answering does.
func (w *writeAnswer) run(ctx context.Context, f func() (*mvcc.Result, error)) (res *mvcc.Result, err error) {
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.w.leave()
		if w.ended = true; err != nil {
			w.w.drop()
		}
	}()
	for {
		if res, err = f(); !errors.Is(err, errNoRoom) {
			return res, err
		}
		w.w.drop()
		if err = w.w.wait(ctx); err != nil {
			return nil, err
		}
	}
}
