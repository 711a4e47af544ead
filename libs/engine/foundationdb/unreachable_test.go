//go:build foundationdb

package foundationdb

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// unreachable opens a store whose cluster is a port that accepts connections and never answers.
func unreachable(t *testing.T, o Options) *Store {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	o.ClusterFile = filepath.Join(t.TempDir(), "fdb.cluster")
	if err := os.WriteFile(o.ClusterFile, []byte("no:body@"+l.Addr().String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestUnreachable: a cluster that does not answer is ErrUnavailable after Timeout, or the context's error before.
func TestUnreachable(t *testing.T) {
	s := unreachable(t, Options{Timeout: 50 * time.Millisecond})
	calls := map[string]func(ctx context.Context) error{
		"Snapshot":       func(ctx context.Context) error { _, err := s.Snapshot(ctx); return err },
		"RecentSnapshot": func(ctx context.Context) error { _, err := s.RecentSnapshot(ctx); return err },
		"Begin":          func(ctx context.Context) error { _, err := s.Begin(ctx); return err },
		"WaitChange":     func(ctx context.Context) error { return s.WaitChange(ctx, []byte("k"), nil) },
	}
	for name, call := range calls {
		if err := call(t.Context()); !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.o.Timeout = time.Hour
	for name, call := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s with a deadline: %v", name, err)
		}
		cancel()
	}
}

// TestCloseUnreachable: Close ends what waits for a cluster that does not answer.
func TestCloseUnreachable(t *testing.T) {
	s := unreachable(t, Options{Timeout: time.Hour})
	done := make(chan error, 2)
	go func() { _, err := s.Begin(context.Background()); done <- err }()
	go func() { done <- s.WaitChange(context.Background(), []byte("k"), nil) }()
	for s.versions.isIdle() {
		time.Sleep(time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range cap(done) {
		if err := <-done; !errors.Is(err, engine.ErrClosed) {
			t.Error(err)
		}
	}
	if _, err := s.Begin(t.Context()); !errors.Is(err, engine.ErrClosed) {
		t.Error(err)
	}
}

func (v *versions) isIdle() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.asking
}

// TestCommitUnreachable: a commit to a cluster that does not answer ends with the context only, and its outcome stays
// open.
func TestCommitUnreachable(t *testing.T) {
	s := unreachable(t, Options{})
	tr, err := s.newTransaction()
	if err != nil {
		t.Fatal(err)
	}
	tr.SetReadVersion(1)
	x := &txn{reader: reader{s: s, tr: tr, version: 1}}
	x.UseStamps(1)
	x.Set([]byte("a"), []byte("1"))
	p, err := x.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// TestNetworkOptions: a process cannot have two sets of them.
func TestNetworkOptions(t *testing.T) {
	s := unreachable(t, Options{})
	if _, err := Open(Options{
		ClusterFile: s.o.ClusterFile, TraceDir: t.TempDir(),
	}); !errors.Is(err, errNetworkOptions) {
		t.Error(err)
	}
}
