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
	// expansionMax is how many times larger a request may be in JSON than in protobuf. Bytes take 4/3, short fields
	// take more because of their names, and people indent.
	expansionMax = 4
	// bodyTimeout and bodyRate bound the time that a body, or one message of a stream, may take: bodyTimeout, and what
	// the largest allowed body takes at bodyRate.
	bodyTimeout = 28 * time.Second
	bodyRate    = 64 << 10 // bytes/s
	// bodyBytesMax bounds the bytes of all bodies that are being received. There is always room for bodiesMin of the
	// largest.
	bodyBytesMax = 64 << 20
	bodiesMin    = 4
	// bodyFree is the size up to which a body is not counted.
	bodyFree = 4 << 10
)

var (
	errBodySlow   = errors.New("the request's body did not arrive in time")
	errBodyMemory = errors.New("the request bodies that are being received take too much memory")
)

// timeFor returns how long a body of n bytes may take.
func timeFor(n int) time.Duration { return bodyTimeout + time.Duration(n)*time.Second/bodyRate }

// bodies bounds the memory of request bodies that are being received. If they take too much, it drops the oldest bodies
// of the tenant that has most.
type bodies struct {
	bytesMax int64

	mu    sync.Mutex
	bytes int64
	of    map[*tenant]*list.List // of *body that count, the oldest first; none is empty
}

func newBodies(bytesMax int64) *bodies {
	return &bodies{bytesMax: bytesMax, of: make(map[*tenant]*list.List)}
}

// body is the body of a request: one message, or the messages of a stream. It bounds the size and the time of each.
type body struct {
	io.ReadCloser
	of      *tenant
	all     *bodies
	max     int64
	timeout time.Duration
	// deadline sets the deadline of reads; the zero time means none.
	deadline func(time.Time)
	// duplex says that messages may come at any time. Otherwise all of them must come at once.
	duplex bool

	// Under all.mu.
	bytes   int64         // of the message that is being received
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
		// A deadline that stayed would end the wait for the answer.
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

// count adds n bytes to the account. all.mu is held.
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
		oldest.deadline(time.Unix(1, 0)) // so that a read that waits ends
	}
	return nil
}

// victim returns the oldest body of the tenant that has most. There is always one. mu is held.
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

// failed returns the error of reading, nil if there was none.
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
