package server

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestPrivateFromTheStart: a socket that is not for others has that mode when it gets its name, not a moment later.
func TestPrivateFromTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	lc := net.ListenConfig{Control: bindPrivate}
	l, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if fi, err := os.Stat(path); err != nil || fi.Mode() != fs.ModeSocket|privateMode {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	tcp, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp.Close()
}
