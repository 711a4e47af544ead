package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/porttest"
	"github.com/headwaterdb/headwater/tests/internal/check"
	"github.com/headwaterdb/headwater/tests/internal/inproc"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

var (
	durationFlag = flag.Duration("duration", 4*time.Second, "how long the traffic of each case goes on")
	seedFlag     = flag.Uint64("seed", 0, "seed of all random choices; 0 picks one")
)

func TestMain(m *testing.M) { leaktest.Main(m, testengine.IgnoreThreads()) }

// TestFoundationDB reports whether this run uses a FoundationDB cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }

// losesPower says what a test needs that FoundationDB cannot give it.
const losesPower = "a file system that loses power"

const (
	linearizationTimeout = 3 * time.Minute
	// progressMin and progressMax are how many requests succeed between two crashes.
	progressMin, progressMax = 50, 600
	dataDir                  = "data"
)

// system is a server in this process that crashes and comes back.
type system struct {
	t       *testing.T
	rnd     *rand.Rand
	pebble  pebble.Options
	shared  engine.Store // FoundationDB, which outlives a crash; nil: pebble on fs
	mvcc    mvcc.Options
	faults  *faults.Options // nil: the engine as it is
	fs      *vfs.MemFS
	addr    string
	eng     engine.Store
	srv     *inproc.Server
	crashes int

	conflicts, retries int64 // of all servers
}

func (s *system) start(ctx context.Context) error {
	db, err := s.open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	s.eng = db
	pause := func(bool) {}
	if s.faults != nil {
		o := *s.faults
		o.Seed = s.rnd.Uint64()
		wrapped := faults.New(db, o)
		s.eng, pause = wrapped, wrapped.Pause
	}
	// A real service would end if it cannot open its keyspace, and would be started again. This test does not cover
	// that.
	pause(true)
	defer pause(false)
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return errors.Join(err, s.eng.Close())
	}
	logger := slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	if s.srv, err = inproc.Start(ctx, inproc.Config{
		Engine: s.eng, Listener: l, MVCC: s.mvcc, Logger: logger,
	}); err != nil {
		return errors.Join(err, l.Close(), s.eng.Close())
	}
	return nil
}

// open opens the engine of the server.
func (s *system) open() (engine.Store, error) {
	if s.shared != nil {
		return testengine.KeepOpen(s.shared), nil
	}
	o := s.pebble
	o.FS, o.ReserveBytes, o.BallastBytes = s.fs, -1, -1
	o.Seed = s.rnd.Uint64()
	return pebble.Open(dataDir, o)
}

// onShared puts the system on the engine that this run has chosen, with several lanes. In memory a crash loses power.
// On FoundationDB only the server crashes.
func (s *system) onShared() {
	if testengine.Chosen() == testengine.FoundationDB {
		s.shared = testengine.Open(s.t, 0)
	}
	s.pebble = pebble.Options{Sparse: true, NotPipelined: true, FDBLimits: true, CloseWithin: time.Minute}
	s.mvcc = mvcc.Options{Lanes: 4, Shift: 5, GroupMax: 8, InlineBytes: 3}
}

// crash loses power and starts again on what the disk has kept: everything that was synced and a random part of the
// rest.
func (s *system) crash(ctx context.Context) error {
	s.crashes++
	var after *vfs.MemFS
	s.count(s.srv)
	err := s.srv.Stop(func() {
		after = s.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: s.rnd.IntN(101), RNG: s.rnd})
	})
	if err := errors.Join(err, s.eng.Close()); err != nil {
		return fmt.Errorf("stop of the crashed server: %w", err)
	}
	s.fs = after
	return s.start(ctx)
}

// count adds the conflicts and retries of the server that is about to end.
func (s *system) count(srv *inproc.Server) {
	u := srv.Usage()
	s.conflicts += u.Conflicts.Load()
	s.retries += u.Retries.Load()
}

func (s *system) stop() error {
	s.count(s.srv)
	return errors.Join(s.srv.Stop(nil), s.eng.Close())
}

// judged runs traffic and crashes the system until the time is over and the traffic is complete. Then the judges judge
// the history.
func (s *system) judged(cfg load.Config) {
	s.t.Helper()
	ctx := s.t.Context()
	if err := s.start(ctx); err != nil {
		s.t.Fatal(err)
	}
	h, err := s.traffic(ctx, cfg)
	if err != nil {
		s.t.Error(err)
	}
	res, err := s.judge(ctx, cfg, h)
	if err != nil {
		s.t.Error(err)
	}
	s.t.Logf("%d crashes, %d conflicts, %d retries; %d answered, %d failed; %+v",
		s.crashes, s.conflicts, s.retries, h.Acked, h.Failed, res.Coverage)
	if c := res.Coverage; c.OldReads == 0 || c.Serializable == 0 || c.Resumable == 0 || c.Creates == 0 || c.Prev == 0 ||
		c.Progress == 0 {
		s.t.Errorf("the traffic lacks something that is to be judged: %+v", c)
	}
	if s.faults != nil && (s.conflicts == 0 || s.retries == 0) {
		s.t.Errorf("%d conflicts and %d retries: no faults occurred", s.conflicts, s.retries)
	}
}

// judge stops the system and compares the history with its log.
func (s *system) judge(ctx context.Context, cfg load.Config, h load.History) (check.Result, error) {
	if f, ok := s.eng.(*faults.Store); ok {
		f.Pause(true)
	}
	log, err := s.srv.Log(ctx)
	if err = errors.Join(err, s.stop()); err != nil {
		return check.Result{}, err
	}
	whole, err := check.Complete(h.Events, log)
	if err != nil {
		return check.Result{}, err
	}
	hist := check.History{History: h, Log: whole, OneKeyPerRevision: cfg.Profile == load.Kubernetes}
	if cfg.Sparse {
		hist = check.Ranks(hist)
	} else {
		hist.Requests = check.Requests(whole)
	}
	return check.Run(zaptest.NewLogger(s.t, zaptest.Level(zap.ErrorLevel)), hist, linearizationTimeout)
}

func (s *system) traffic(ctx context.Context, cfg load.Config) (load.History, error) {
	cfg.Endpoints = []string{s.addr}
	run, err := load.Start(ctx, cfg)
	if err != nil {
		return load.History{}, err
	}
	for end := time.Now().Add(*durationFlag); err == nil && run.GoesOn(end); {
		if err = run.Progress(ctx, progressMin+s.rnd.Int64N(progressMax-progressMin)); err == nil {
			err = s.crash(ctx)
		}
	}
	h, stopErr := run.Stop(ctx)
	return h, errors.Join(err, stopErr)
}

func newSystem(t *testing.T) (*system, uint64) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", seed)
	return &system{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), fs: vfs.NewCrashableMem(), addr: porttest.Addr(t)}, seed
}

// TestPowerLoss runs the standalone server's engine, unchanged, and makes the power fail.
func TestPowerLoss(t *testing.T) {
	testengine.NeedsPebble(t, losesPower)
	s, seed := newSystem(t)
	s.judged(load.Config{
		Profile: load.KeyValue, Seed: seed, Clients: 8, Watchers: 4, Rate: 2000, LargeBytes: 150_000, Compact: true,
	})
}

// TestForgottenWrites checks that the judges notice a server that forgets acknowledged writes. For that it clones the
// disk some time before it cuts the connections.
func TestForgottenWrites(t *testing.T) {
	testengine.NeedsPebble(t, losesPower)
	s, seed := newSystem(t)
	ctx := t.Context()
	if err := s.start(ctx); err != nil {
		t.Fatal(err)
	}
	cfg := load.Config{
		Endpoints: []string{s.addr}, Profile: load.KeyValue, Seed: seed, Clients: 4, Watchers: 2, Rate: 2000,
	}
	run, err := load.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = run.Progress(ctx, progressMax)
	old := s.fs.CrashClone(vfs.CrashCloneCfg{})
	err = errors.Join(err, run.Progress(ctx, progressMax), s.srv.Stop(nil), s.eng.Close())
	s.fs = old
	if err = errors.Join(err, s.start(ctx), run.Progress(ctx, progressMax)); err != nil {
		t.Fatal(err)
	}
	h, err := run.Stop(ctx)
	_, judgeErr := s.judge(ctx, cfg, h)
	if err == nil && judgeErr == nil {
		t.Error("no judge objects")
	}
	t.Logf("objections: %v; %.200v", err, judgeErr)
}

// TestSparse runs the same code under the conditions of FoundationDB, with crashes: sparse stamps, concurrent commits,
// small values and transactions, and several lanes.
func TestSparse(t *testing.T) {
	s, seed := newSystem(t)
	s.onShared()
	s.judged(load.Config{
		Profile: load.KeyValue, Sparse: true, Seed: seed,
		Clients: 8, Watchers: 4, Rate: 2000, LargeBytes: 250_000, Compact: true,
	})
}

// badDays are the faults of a FoundationDB cluster in trouble, at a higher rate.
var badDays = faults.Options{
	Conflict: 0.1, UnknownLost: 0.04, UnknownCommitted: 0.04, TooOld: 0.003, Unavailable: 0.0005, Delay: delay,
}

const (
	delayMax   = 10 * time.Millisecond
	delayOneIn = 50
)

// delay makes a few calls slow.
func delay(ctx context.Context, _ faults.Op) {
	if rand.IntN(delayOneIn) != 0 {
		return
	}
	timer := time.NewTimer(rand.N(delayMax))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// TestFaults injects faults into the engine with sparse stamps and several lanes.
func TestFaults(t *testing.T) {
	s, seed := newSystem(t)
	s.onShared()
	s.faults = &badDays
	s.judged(load.Config{
		Profile: load.KeyValue, Sparse: true, Seed: seed,
		Clients: 8, Watchers: 4, Rate: 2000, LargeBytes: 250_000, Compact: true,
	})
}

// TestFaultsDense injects faults into the engine that numbers densely.
func TestFaultsDense(t *testing.T) {
	testengine.NeedsPebble(t, "dense revisions are standalone's")
	s, seed := newSystem(t)
	s.mvcc = mvcc.Options{GroupMax: 8, InlineBytes: 3}
	s.faults = &badDays
	s.judged(load.Config{
		Profile: load.KeyValue, Seed: seed, Clients: 8, Watchers: 4, Rate: 2000, LargeBytes: 150_000, Compact: true,
	})
}

// TestSparseKubernetes is TestSparse with the traffic of Kubernetes.
func TestSparseKubernetes(t *testing.T) {
	s, seed := newSystem(t)
	s.onShared()
	s.judged(load.Config{
		Profile: load.Kubernetes, Sparse: true, Seed: seed, Clients: 8, Watchers: 4, Rate: 2000, Compact: true,
	})
}
