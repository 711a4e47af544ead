//go:build !headwater_simulation

package server

import (
	"io"
	"net"
	"syscall"
)

// sniff looks at the first bytes of c and leaves them in the socket. So grpc-go gets a *net.TCPConn or a *net.UnixConn.
// Only with those does it return its read buffer while a connection is idle, which saves most of the memory of an idle
// watcher.
func sniff(c net.Conn) (net.Conn, verdict, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return sniffByReading(c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return c, undecided, err
	}
	var (
		head [headBytesMax]byte
		v    verdict
		peek error
	)
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, e := syscall.Recvfrom(int(fd), head[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			switch {
			case e == syscall.EINTR:
				continue
			case e == syscall.EAGAIN:
				return false
			case e != nil:
				peek = e
				return true
			case n == 0:
				peek = io.EOF
				return true
			}
			v = judge(head[:n])
			// Undecided: wait for more. The poller wakes up whenever bytes arrive, not only for the first ones.
			return v != undecided
		}
	})
	if err == nil {
		err = peek
	}
	return c, v, err
}
