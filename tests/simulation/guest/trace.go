//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// tracef writes a line of the trace: when, who, what.
func (w *world) tracef(who, format string, args ...any) {
	fmt.Printf("%10.4f %-14s %s\n", time.Since(w.began).Seconds(), who, fmt.Sprintf(format, args...))
}

// seen counts what has been met in a run, by name.
type seen struct {
	mu sync.Mutex
	n  map[string]int
}

func (s *seen) note(what string) { s.add(what, 1) }

func (s *seen) add(what string, n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == nil {
		s.n = make(map[string]int)
	}
	s.n[what] += n
}

// all is what has been met.
func (s *seen) all() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// podLog is where pods log: to w, and what they say is met.
type podLog struct {
	slog.Handler
	seen *seen
}

func newPodLog(w io.Writer, s *seen) slog.Handler {
	return podLog{slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}), s}
}

// Handle implements slog.Handler.
func (l podLog) Handle(ctx context.Context, r slog.Record) error {
	l.seen.note("log: " + strings.TrimSpace(r.Message))
	return l.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l podLog) WithAttrs(a []slog.Attr) slog.Handler { return podLog{l.Handler.WithAttrs(a), l.seen} }

// WithGroup implements slog.Handler.
func (l podLog) WithGroup(name string) slog.Handler { return podLog{l.Handler.WithGroup(name), l.seen} }
