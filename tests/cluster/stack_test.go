package cluster

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/inproc"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	podsPerRole = 2
	// startTimeout is how long a pod may take to start. An attempt may fail by a fault; the test repeats it, as an
	// orchestrator would.
	startTimeout = 2 * time.Minute
	startPause   = 20 * time.Millisecond
	tailerPoll   = 10 * time.Millisecond
)

// stack is a deployment: an engine, a nats-server and pods.
type stack struct {
	t      *testing.T
	dir    string
	seed   uint64
	eng    engine.Store
	nats   *hw.Server
	mute   atomic.Bool
	count  mishaps
	podLog *slog.Logger
	pods   map[role][]*member

	corpses sync.WaitGroup
}

// newStack prepares a deployment and cleans up after the test.
func newStack(t *testing.T) *stack {
	t.Helper()
	s := &stack{t: t, dir: artifacts(t), seed: seed(t), nats: hw.New(t, hw.NATS(t), ""), pods: map[role][]*member{}}
	if err := s.nats.Start(); err != nil {
		t.Fatal(err)
	}
	logFile, err := os.Create(filepath.Join(s.dir, "pods.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { logFile.Close() })
	s.podLog = slog.New(slog.NewTextHandler(io.Writer(logFile), &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.eng = testengine.Open(t, s.seedOf("engine"))
	t.Cleanup(s.close)
	for _, r := range []role{kv, hub, keeper} {
		for i := range podsPerRole {
			name := fmt.Sprintf("%s-%d", r, i)
			m := &member{role: r, name: name, dir: filepath.Join(s.dir, name)}
			if m.proxy, err = newProxy(); err != nil {
				t.Fatal(err)
			}
			s.pods[r] = append(s.pods[r], m)
		}
	}
	return s
}

// seedOf derives the seed of a part.
func (s *stack) seedOf(part string) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s", s.seed, part)
	return h.Sum64()
}

// failed makes the test fail because of an error in a pod.
func (s *stack) failed(err error) {
	s.logf("%v", err)
	s.t.Error(err)
}

// logf writes to the pods' log.
func (s *stack) logf(format string, args ...any) {
	s.podLog.Info("=== " + fmt.Sprintf(format, args...))
}

// close ends everything that runs.
func (s *stack) close() {
	for _, pods := range s.pods {
		for _, m := range pods {
			if m.incarnation != nil {
				m.gate.Resume()
				if err := m.close(); err != nil {
					s.t.Errorf("%s: close: %v", m.name, err)
				}
			}
			if err := m.proxy.close(); err != nil {
				s.t.Errorf("%s: proxy: %v", m.name, err)
			}
		}
	}
	s.corpses.Wait()
}

func (s *stack) addrs(roles ...role) (addrs []string) {
	for _, r := range roles {
		for _, m := range s.pods[r] {
			addrs = append(addrs, m.addr())
		}
	}
	return addrs
}

// startAll starts all pods at once.
func (s *stack) startAll(ctx context.Context) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all error
	for _, pods := range s.pods {
		for _, m := range pods {
			wg.Go(func() {
				err := s.start(ctx, m)
				mu.Lock()
				defer mu.Unlock()
				all = errors.Join(all, err)
			})
		}
	}
	wg.Wait()
	return all
}

// start puts a new incarnation behind a pod's address, again and again until one comes up.
func (s *stack) start(ctx context.Context, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(startPause)
	defer ticker.Stop()
	for {
		in, err := s.incarnate(ctx, m)
		if err == nil {
			m.incarnation = in
			m.proxy.attach(in.at, in.gate)
			return nil
		}
		s.logf("%s: start: %v", m.name, err)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
}

// kill takes a pod away as the end of its process does.
func (s *stack) kill(m *member) {
	in := m.incarnation
	m.incarnation = nil
	in.gone.Store(true)
	m.proxy.detach()
	in.view.Kill()
	in.gate.Kill()
	m.generation++
	// How it ends does not matter, but it must end.
	s.corpses.Go(func() { _ = in.close() })
}

// drain stops a pod in order, as SIGTERM does.
func (s *stack) drain(ctx context.Context, m *member) error {
	in := m.incarnation
	m.incarnation = nil
	in.node.Drain(ctx)
	err := in.close()
	m.proxy.detach()
	return err
}

// client returns a clientv3 client with these addresses. It is closed at the end of the test.
func (s *stack) client(addrs ...string) *clientv3.Client {
	s.t.Helper()
	cli, err := clientv3.New(clientv3.Config{Endpoints: addrs, Logger: zap.NewNop()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cli.Close() }) // an error only tells of connections that are gone
	return cli
}

// log reads the keyspace's log.
func (s *stack) log(ctx context.Context) (log []revlog.Entry, err error) {
	ks, err := keyspace.Lookup(ctx, s.eng, []byte(engineRoot), keyspaceName)
	if err != nil {
		return nil, err
	}
	store, err := mvcc.Open(ctx, testengine.KeepOpen(s.eng), mvcc.Options{Prefix: ks.Prefix, NoRemoval: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return inproc.ReadLog(ctx, store)
}

// tailer returns the hub that is the tailer. If there is none for tailerTimeout, it returns any hub.
func (s *stack) tailer(rnd *rand.Rand) *member {
	hubs := s.pods[hub]
	ticker := time.NewTicker(tailerPoll)
	defer ticker.Stop()
	for end := time.Now().Add(tailerTimeout); time.Now().Before(end); <-ticker.C {
		for _, m := range hubs {
			if n, ok := m.node.(interface{ Tailing() bool }); ok && n.Tailing() {
				return m
			}
		}
	}
	s.logf("nobody is the tailer")
	return hubs[rnd.IntN(len(hubs))]
}
