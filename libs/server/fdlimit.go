package server

import (
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// fdReserve is how many file descriptors connections leave to the store. The store fails for good when it cannot open
// its files, and the engine keeps up to 1,000 tables open.
const fdReserve = 1200

// refusalLogInterval is the shortest time between two log lines about refused connections.
const refusalLogInterval = time.Second

// fdMax returns the file descriptor from which on connections are refused: the process's limit minus the reserve, or
// half of a small limit. 0: no limit.
func fdMax() int {
	limit := openFilesLimit()
	return max(limit-fdReserve, limit/2)
}

// guard refuses connections when the process runs out of file descriptors, unless a connection that waits for its
// client can be closed instead. The system gives out the lowest free descriptor, so a high one means that nearly all
// are in use. So nothing has to be counted, and connections keep their type.
type guard struct {
	net.Listener
	max     int // 0: no bound
	waiting *waitingRoom
	log     *slog.Logger
	refused atomic.Int64
	logged  time.Time // of the last line; Accept is called from one goroutine
}

func (g *guard) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil || g.max == 0 || descriptor(c) < g.max || g.waiting.makeRoom() {
			return c, err
		}
		c.Close()
		g.refused.Add(1)
		if now := time.Now(); now.Sub(g.logged) >= refusalLogInterval {
			g.logged = now
			g.log.Warn(
				"refusing connections: the limit of open files is nearly reached", "address", g.Addr().String(),
				"refused", g.refused.Load(), "descriptors", g.max,
			)
		}
	}
}

// descriptor returns the file descriptor of c, or 0 if it has none.
func descriptor(c net.Conn) int {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	if err := raw.Control(func(fd uintptr) { n = int(fd) }); err != nil {
		return 0
	}
	return n
}
