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
	// waitingMax bounds the connections that wait for their client: those that have not said what they speak, and
	// those of HTTP/1 between two requests.
	waitingMax = 4096
	// waitingPart bounds them to a part of the file descriptors, so that those who say nothing never keep out those
	// who do.
	waitingPart = 4
)

// waitingRoom holds the connections that wait for their client, of all listeners. There is always room for one more:
// the one that has waited longest is closed for it. Its methods may be called from any goroutine.
type waitingRoom struct {
	max int
	log *slog.Logger

	mu      sync.Mutex
	closed  bool
	order   *lists.List // of net.Conn, the oldest first
	conns   map[net.Conn]*lists.Element
	evicted int       // in all
	logged  time.Time // when that was last written down
}

func newWaitingRoom(log *slog.Logger) *waitingRoom {
	room := &waitingRoom{max: waitingMax, log: log, order: lists.New(), conns: make(map[net.Conn]*lists.Element)}
	if limit := fdMax(); limit > 0 {
		room.max = max(min(waitingMax, limit/waitingPart), 1)
	}
	return room
}

// enter lets c wait, as the youngest; in a room that is closed it is closed.
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

// leave says that c waits no longer; false: it has been closed.
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

// makeRoom closes the oldest; false: nobody waits.
func (w *waitingRoom) makeRoom() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.order.Len() == 0 {
		return false
	}
	w.evict()
	return true
}

// evict closes the oldest. w.mu is held, and somebody waits.
func (w *waitingRoom) evict() {
	c := w.remove(w.order.Front())
	c.Close()
	w.evicted++
	if now := time.Now(); now.Sub(w.logged) >= refusalLogInterval {
		w.logged = now
		w.log.Warn(
			"closing the connections that have been silent longest: too many are", "limit", w.max, "closed", w.evicted,
		)
	}
}

// remove takes e out. w.mu is held.
func (w *waitingRoom) remove(e *lists.Element) net.Conn {
	c := w.order.Remove(e).(net.Conn)
	delete(w.conns, c)
	return c
}

// close closes all who wait, and who come later.
func (w *waitingRoom) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for w.order.Len() > 0 {
		w.remove(w.order.Front()).Close()
	}
}

// connState keeps an HTTP/1 connection in the room while it waits for a request's header; it is an http.Server's
// ConnState.
func (w *waitingRoom) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew, http.StateIdle:
		w.enter(c)
	case http.StateActive, http.StateClosed, http.StateHijacked:
		w.leave(c)
	}
}
