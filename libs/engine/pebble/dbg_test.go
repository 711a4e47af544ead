package pebble

import (
	"fmt"
	"os"
	"runtime/pprof"
	"testing"
)

func dbg(t *testing.T, s *Store) {
	go func() { pprof.Lookup("goroutine").WriteTo(os.Stderr, 1) }()
	fmt.Fprintln(os.Stderr, s.db.Metrics().String())
	fmt.Fprintf(os.Stderr, "%+v\n", s.Stats())
}
