package server

import (
	lists "container/list"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// waitingMax bounds the connections that wait for their client: those that have not shown their protocol, and those
	// of HTTP/1 between two requests.
	waitingMax = 4096
	// waitingPart bounds them to a part of the file descriptors, so that silent clients never keep out others.
	waitingPart = 4
)

// waitingRoom holds the connections of all listeners that wait for their client. There is always room for one more,
// because the one that has waited longest is closed instead. Its methods may be called from any goroutine.
type waitingRoom struct {
	max int
	log *slog.Logger

	mu      sync.Mutex
	closed  bool
	order   *lists.List // of net.Conn, the oldest first
	conns   map[net.Conn]*lists.Element
	evicted int       // the total number
	logged  time.Time // when that was last logged
}

func newWaitingRoom(log *slog.Logger) *waitingRoom {
	room := &waitingRoom{max: waitingMax, log: log, order: lists.New(), conns: make(map[net.Conn]*lists.Element)}
	if limit := fdMax(); limit > 0 {
		room.max = max(min(waitingMax, limit/waitingPart), 1)
	}
	return room
}

// enter adds c as the youngest. If the room is closed, it closes c.
func (w *waitingRoom) enter(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		c.Close()
		return
	}
	if w.conns[c] != nil {
		return
	}
	w.conns[c] = w.order.PushBack(c)
	if w.order.Len() > w.max {
		w.evict()
	}
}

// leave takes out c, which waits no longer. false: c has been closed.
func (w *waitingRoom) leave(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.conns[c]
	if e == nil {
		return false
	}
	w.remove(e)
	return true
}

// makeRoom closes the oldest connection. false: there is none.
func (w *waitingRoom) makeRoom() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.order.Len() == 0 {
		return false
	}
	w.evict()
	return true
}

// evict closes the oldest connection. w.mu is held, and there is one.
func (w *waitingRoom) evict() {
	c := w.remove(w.order.Front())
	c.Close()
	w.evicted++
	if now := time.Now(); now.Sub(w.logged) >= refusalLogInterval {
		w.logged = now
		w.log.Warn(
			"too many silent connections; closing those that have been silent longest",
			"limit", w.max, "closed", w.evicted,
		)
	}
}

// remove takes e out. w.mu is held.
func (w *waitingRoom) remove(e *lists.Element) net.Conn {
	c := w.order.Remove(e).(net.Conn)
	delete(w.conns, c)
	return c
}

// close closes all connections that wait, and those that come later.
func (w *waitingRoom) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for w.order.Len() > 0 {
		w.remove(w.order.Front()).Close()
	}
}

// connState keeps an HTTP/1 connection in the room while it waits for the header of a request. It is an http.Server's
// ConnState.
func (w *waitingRoom) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew, http.StateIdle:
		w.enter(c)
	case http.StateActive, http.StateClosed, http.StateHijacked:
		w.leave(c)
	}
}
