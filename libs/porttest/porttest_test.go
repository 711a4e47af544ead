package porttest

import (
	"net"
	"testing"
)

// TestReserve: no address is reserved twice at a time, each can be listened at again and again, and none is one that
// the system gives out.
func TestReserve(t *testing.T) {
	seen := map[string]bool{}
	for range 300 {
		addr := Addr(t)
		if seen[addr] {
			t.Fatalf("%s is reserved twice", addr)
		}
		seen[addr] = true
		for range 2 {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if port := l.Addr().(*net.TCPAddr).Port; port < portMin || port >= portEnd {
				t.Errorf("port %d", port)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		if mark, err := net.ListenPacket("udp", addr); err == nil {
			_ = mark.Close()
			t.Errorf("another process would reserve %s too", addr)
		}
	}
}

// TestRelease: a released address can be reserved again.
func TestRelease(t *testing.T) {
	addr, release, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	release()
	mark, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := mark.Close(); err != nil {
		t.Error(err)
	}
}
