package server

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindPrivate is the Control of a net.ListenConfig. It creates a unix socket with privateMode. In Linux the file that
// bind makes has the mode of the socket.
func bindPrivate(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "unix") {
		return nil
	}
	var chmodErr error
	err := c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), privateMode) })
	if err != nil {
		return err
	}
	return chmodErr
}
