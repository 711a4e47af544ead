package hw

import (
	"errors"
	"strings"
	"testing"
)

// script is a shell script in the role of a server.
func script(text string) Program {
	return Program{Name: "script", Path: "/bin/sh", Args: func(Layout) []string { return []string{"-c", text} }}
}

func TestServer(t *testing.T) {
	s := Run(t, script("echo starting; echo "+readyLine+"; exec sleep 60"), t.TempDir())
	if err := s.Start(); err == nil {
		t.Error("a second process is started")
	}
	for range 2 {
		if err := errors.Join(s.Pause(), s.Resume(), s.Kill(), s.Start()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(); err != nil { // by the signal, as etcd does
		t.Error(err)
	}
	if err := s.Kill(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("kill of no process: %v", err)
	}
	if got := strings.Count(s.Output(), readyLine); got != 3 {
		t.Errorf("%d processes were ready, want 3:\n%s", got, s.Output())
	}
}

func TestServerThatFails(t *testing.T) {
	s := New(t, script("echo no luck; exit 3"), t.TempDir())
	if err := s.Start(); err == nil || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("want the server's output, got: %v", err)
	}
}

func TestServerThatEnds(t *testing.T) {
	s := Run(t, script("echo "+readyLine), t.TempDir())
	<-s.exited
	if err := s.Stop(); err == nil || !strings.Contains(err.Error(), "before it was stopped") {
		t.Errorf("got: %v", err)
	}
}

func TestExitStatus(t *testing.T) {
	s := Run(t, script("trap 'exit 7' TERM; echo "+readyLine+"; while :; do sleep 0.01; done"), t.TempDir())
	if err := s.Stop(); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("got: %v", err)
	}
}

func TestTail(t *testing.T) {
	var l tail
	seen := make(chan struct{})
	l.watch("two", seen)
	for _, part := range []string{"one\nt", "w", "o\n", strings.Repeat("x", logTailMaxBytes), "end\n"} {
		if _, err := l.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	<-seen
	if got := l.String(); len(got) != logTailMaxBytes || !strings.HasSuffix(got, "xend\n") {
		t.Errorf("kept %d bytes", len(got))
	}
}
