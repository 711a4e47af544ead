package gateway

import (
	"bytes"
	"container/list"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Limits of requests' bodies.
const (
	// expansionMax is how much larger than in protobuf a request may be in JSON: bytes take 4/3, short fields with
	// their names more, and people indent.
	expansionMax = 4
	// bodyTimeout and bodyRate say how long a body, or one message of a stream, may take: so long, and as long as the
	// largest takes at that rate.
	bodyTimeout = 28 * time.Second
	bodyRate    = 64 << 10 // bytes/s
	// bodyBytesMax bounds the bytes of bodies that are on their way; bodiesMin is how many of the largest always find
	// room.
	bodyBytesMax = 64 << 20
	bodiesMin    = 4
	// bodyFree is up to how many bytes a body counts as none.
	bodyFree = 4 << 10
)

var (
	errBodySlow   = errors.New("the request's body did not come in time")
	errBodyMemory = errors.New("the bodies on their way take too much memory")
)

// timeFor is how long so many bytes may take.
func timeFor(n int) time.Duration { return bodyTimeout + time.Duration(n)*time.Second/bodyRate }

// bodies bounds the memory of requests' bodies that are on their way. When there is too much, those of the tenant who
// has most there go, the oldest first.
type bodies struct {
	bytesMax int64

	mu    sync.Mutex
	bytes int64
	of    map[*tenant]*list.List // of *body that count, the oldest first; none is empty
}

func newBodies(bytesMax int64) *bodies {
	return &bodies{bytesMax: bytesMax, of: make(map[*tenant]*list.List)}
}

// body is the body of a request: one message, or the messages of a stream. It bounds size and time of each.
type body struct {
	io.ReadCloser
	of      *tenant
	all     *bodies
	max     int64
	timeout time.Duration
	// deadline sets that of reading; the zero time is none.
	deadline func(time.Time)
	// duplex says that messages may come at any time; else all of them must come at once.
	duplex bool

	// Under all.mu.
	bytes   int64         // of the present message
	begun   bool          // its first byte has come
	place   *list.Element // among those that count
	failure error         // what reading gives from now on
	ended   bool          // nothing more is read
}

func (g *Gateway) newBody(of *tenant, r io.ReadCloser, duplex bool, deadline func(time.Time)) *body {
	b := &body{
		ReadCloser: r, of: of, all: g.bodies, max: g.jsonMax, timeout: g.timeout,
		deadline: deadline, duplex: duplex, begun: true,
	}
	deadline(time.Now().Add(b.timeout))
	return b
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.all.mu.Lock()
	defer b.all.mu.Unlock()
	switch {
	case b.failure != nil:
		return 0, b.failure
	case b.ended:
		return n, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.failure = errBodySlow
		return 0, b.failure
	case err != nil: // io.EOF, or the client has gone
		// A deadline that stays would end the wait for the answer.
		b.deadline(time.Time{})
	}
	if !b.begun && len(bytes.TrimSpace(p[:n])) > 0 {
		b.begun = true
		b.deadline(time.Now().Add(b.timeout))
	}
	if b.failure = b.count(int64(n)); b.failure != nil {
		return 0, b.failure
	}
	return n, err
}

// count counts n bytes more. all.mu is held.
func (b *body) count(n int64) error {
	if b.bytes+n > b.max {
		b.forget()
		return fmt.Errorf("the request is larger than %d bytes", b.max)
	}
	b.bytes += n
	if b.place == nil {
		if b.bytes <= bodyFree {
			return nil
		}
		b.all.add(b)
		n = b.bytes
	}
	b.all.bytes += n
	b.of.bodies += n
	for b.all.bytes > b.all.bytesMax {
		oldest := b.all.victim()
		oldest.forget()
		oldest.failure = errBodyMemory
		if oldest == b {
			return errBodyMemory
		}
		oldest.deadline(time.Unix(1, 0)) // it may be reading
	}
	return nil
}

// victim is the oldest body of the tenant who has most. There is one. mu is held.
func (l *bodies) victim() *body {
	var most *tenant
	for t := range l.of {
		if most == nil || t.bodies > most.bodies {
			most = t
		}
	}
	return l.of[most].Front().Value.(*body)
}

// add puts b behind the others of its tenant. mu is held.
func (l *bodies) add(b *body) {
	order := l.of[b.of]
	if order == nil {
		order = list.New()
		l.of[b.of] = order
	}
	b.place = order.PushBack(b)
}

// remove takes b out. mu is held.
func (l *bodies) remove(b *body) {
	order := l.of[b.of]
	order.Remove(b.place)
	b.place = nil
	if order.Len() == 0 {
		delete(l.of, b.of)
	}
}

// forget takes b out of the account. all.mu is held.
func (b *body) forget() {
	if b.place != nil {
		b.all.remove(b)
		b.all.bytes -= b.bytes
		b.of.bodies -= b.bytes
	}
	b.bytes = 0
}

// taken says that a message has been decoded and passed on.
func (b *body) taken() {
	b.all.mu.Lock()
	defer b.all.mu.Unlock()
	b.forget()
	if b.duplex && !b.ended && b.failure == nil {
		b.begun = false
		b.deadline(time.Time{})
	}
}

// failed is why reading has failed, nil if it has not.
func (b *body) failed() error {
	b.all.mu.Lock()
	defer b.all.mu.Unlock()
	return b.failure
}

// end says that the request has ended.
func (b *body) end() {
	b.all.mu.Lock()
	defer b.all.mu.Unlock()
	b.forget()
	b.ended = true
}
