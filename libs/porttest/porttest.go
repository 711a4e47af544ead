package porttest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

const (
	// portMin and portEnd bound the ports. From portEnd on Linux gives ports out by itself; other systems begin higher.
	portMin = 10_000
	portEnd = 32_768
	// tries is how many ports are looked at before Reserve gives up.
	tries = 1000
)

// Addr reserves an address of loopback until the end of the test and of the cleanups that are registered after it.
func Addr(tb testing.TB) string {
	tb.Helper()
	addr, release, err := Reserve()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(release)
	return addr
}

// Port reserves a port of 127.0.0.1 as Addr does.
func Port(tb testing.TB) int {
	tb.Helper()
	a, err := net.ResolveTCPAddr("tcp", Addr(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return a.Port
}

// Reserve reserves an address, 127.0.0.1 and a port, until release. The end of the process releases it as well. It
// fails if it finds no free port.
func Reserve() (addr string, release func(), err error) {
	for range tries {
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(portMin+rand.IntN(portEnd-portMin)))
		// The UDP port of the number is the mark by which other processes see that it is reserved.
		mark, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			_ = mark.Close()
			continue
		}
		_ = l.Close()
		return addr, func() { _ = mark.Close() }, nil
	}
	return "", nil, errors.New("porttest: no port is free")
}
