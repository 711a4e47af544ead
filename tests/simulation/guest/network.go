//go:build wasip1 || headwater_simulation

package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/tests/internal/podfaults"
)

const (
	// chunkBytes is what one direction of a connection reads at a time, chunksMax how many may be under way.
	chunkBytes = 16 << 10
	chunksMax  = 64
)

// link is the way from one place to one pod: an address that stays while pods behind it come and go. With nobody
// behind it connections are reset.
type link struct {
	from, to string
	l        net.Listener
	slow     *time.Duration // what a chunk takes at most, beside the network's own; the world's

	mu     sync.Mutex
	rnd    *rand.Rand
	target string // "": nobody
	gate   *podfaults.Gate
	conns  map[*conn]struct{}
	there  *podfaults.Gate // from → to; what comes while it is closed waits
	back   *podfaults.Gate
}

// conn is the two ends of one connection.
type conn struct{ client, server net.Conn }

func (c *conn) reset() {
	_ = c.client.Close()
	_ = c.server.Close()
}

func (w *world) newLink(from, to string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{
		from: from, to: to, l: l, slow: &w.slow, rnd: w.rand("link " + from + " " + to),
		conns: make(map[*conn]struct{}), there: podfaults.NewGate(), back: podfaults.NewGate(),
	}
	go k.accept()
	return k, nil
}

func (k *link) addr() string { return k.l.Addr().String() }

// attach puts a pod behind the address.
func (k *link) attach(target string, g *podfaults.Gate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.target, k.gate = target, g
}

// detach takes the pod away and resets all connections.
func (k *link) detach() {
	k.mu.Lock()
	k.target, k.gate = "", nil
	k.mu.Unlock()
	k.reset()
}

// reset resets all connections.
func (k *link) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		c.reset()
	}
	clear(k.conns)
}

func (k *link) accept() {
	for {
		c, err := k.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go k.serve(c)
		}
	}
}

func (k *link) serve(client net.Conn) {
	k.there.Pass()
	k.mu.Lock()
	target, g := k.target, k.gate
	k.mu.Unlock()
	if g == nil || !g.Pass() {
		_ = client.Close()
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.Close()
		return
	}
	c := &conn{client, server}
	k.mu.Lock()
	if k.gate != g {
		k.mu.Unlock()
		c.reset()
		return
	}
	k.conns[c] = struct{}{}
	k.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.transfer(g, k.back, client, server)
	}()
	k.transfer(g, k.there, server, client)
	<-done
	k.mu.Lock()
	delete(k.conns, c)
	k.mu.Unlock()
}

// chunk is bytes on their way.
type chunk struct {
	b  []byte
	at time.Time // when they arrive
}

// transfer carries one direction until either end closes, and then closes both.
func (k *link) transfer(g *podfaults.Gate, hold *podfaults.Gate, to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	way := make(chan chunk, chunksMax)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer to.Close()
		defer from.Close()
		for c := range way {
			time.Sleep(time.Until(c.at))
			hold.Pass()
			if !g.Pass() {
				return
			}
			if _, err := to.Write(c.b); err != nil {
				return
			}
		}
	}()
	defer func() { <-gone }()
	defer close(way)
	b := make([]byte, chunkBytes)
	for {
		n, err := from.Read(b)
		if n > 0 {
			select {
			case way <- chunk{bytes.Clone(b[:n]), time.Now().Add(k.delay())}:
			case <-gone:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// delay is what the next chunk takes: mostly little, sometimes much.
func (k *link) delay() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := 50*time.Microsecond + time.Duration(k.rnd.Int64N(int64(400*time.Microsecond)))
	if k.rnd.IntN(200) == 0 {
		d += time.Duration(k.rnd.Int64N(int64(20 * time.Millisecond)))
	}
	if *k.slow > 0 {
		d += time.Duration(k.rnd.Int64N(int64(*k.slow)))
	}
	return d
}
