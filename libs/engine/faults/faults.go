package faults

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Op is a kind of call.
type Op int

// The calls that may fail.
const (
	Snapshot Op = iota + 1
	Begin
	Get  // Get and GetMany
	Scan // opening an iterator
	Next // one step of an iterator
	Commit
	WaitChange
)

func (o Op) String() string {
	return [...]string{"?", "Snapshot", "Begin", "Get", "Scan", "Next", "Commit", "WaitChange"}[o]
}

// Call is one call as Script sees it.
type Call struct {
	Op  Op
	Key []byte // of Get (the first key of GetMany), Scan (its begin), Next (the row before) and WaitChange
	N   int64  // how many calls came before
}

// Fault is what happens to a call.
type Fault int

// The faults. A fault that a call cannot have is ignored.
const (
	None             Fault = iota
	Conflict               // Commit: ErrConflict from Commit; nothing has happened
	LateConflict           // Commit: ErrConflict from Wait; nothing has happened
	UnknownLost            // Commit: ErrUnknownOutcome from Wait; nothing has happened
	UnknownCommitted       // Commit: ErrUnknownOutcome from Wait; it is durable
	TooOld                 // Get, Scan, Next, Commit: ErrTooOld
	Unavailable            // any: ErrUnavailable; nothing has happened

	// These are a Script's only: chance does not draw them.

	TooLarge     // Commit: ErrTooLarge from Commit; nothing has happened
	LateTooLarge // Commit: ErrTooLarge from Wait; nothing has happened
	NoSpace      // Commit: ErrNoSpace from Commit; nothing has happened
	LateNoSpace  // Commit: ErrNoSpace from Wait; nothing has happened
	LateTooOld   // Commit: ErrTooOld from Wait; nothing has happened
)

// Options choose the faults. Probabilities are per call, 0 … 1.
type Options struct {
	Seed uint64

	Conflict         float64 // of Commit: half of them from Commit, half from Wait
	UnknownLost      float64 // of Commit
	UnknownCommitted float64 // of Commit
	TooOld           float64 // of Get, Scan, Next and Commit
	Unavailable      float64 // of any

	// Script, if not nil, is asked first. If ok is false, chance decides.
	Script func(c Call) (f Fault, ok bool)
	// Delay, if not nil, is called before each call, and may sleep. It should return when ctx ends.
	Delay func(ctx context.Context, op Op)
	// Recent makes BeginRecent offer states that may be outdated, one after each commit. The store must be closed or
	// crashed before the inner store is closed, and must not be pipelined.
	Recent bool
	// Remote, if not nil, puts the store behind a network whose round trips are counted: see Store.Trips.
	Remote *Remote
	// KeepPipelined leaves Limits().Pipelined as in the inner store. It is for runs without commit faults.
	KeepPipelined bool
}

// Store is an engine.Store with faults.
type Store struct {
	o     Options
	calls atomic.Int64
	off   atomic.Bool // no faults by chance or script

	mu    sync.RWMutex
	inner engine.Store
	gen   *generation

	spare spare // with Options.Recent

	dmu     sync.RWMutex
	damaged []damagedRange

	wire *wire // nil without Options.Remote

	rmu sync.Mutex
	r   *rand.Rand // of faults
	lr  *rand.Rand // of latencies, so that they do not change which faults a seed gives
}

// generation is the time between two crashes.
type generation struct {
	ctx    context.Context // ended by the crash
	cancel context.CancelFunc
}

var _ engine.Store = (*Store)(nil)

// New wraps inner. The Store closes it on Close.
func New(inner engine.Store, o Options) *Store {
	s := &Store{o: o, inner: inner, r: rand.New(rand.NewPCG(o.Seed, o.Seed)), wire: newWire(o.Remote)}
	s.lr = rand.New(rand.NewPCG(o.Seed, ^o.Seed))
	s.gen = newGeneration()
	return s
}

func newGeneration() *generation {
	ctx, cancel := context.WithCancel(context.Background())
	return &generation{ctx, cancel}
}

// Pause stops (true) and resumes faults by chance and script. A crashed store stays crashed.
func (s *Store) Pause(off bool) { s.off.Store(off) }

// damagedRange is a range of rows that cannot be read.
type damagedRange struct{ begin, end []byte }

// Damage makes reads of the rows k, begin <= k < end, fail with an engine.Damage, and scans fail when they reach such a
// row, as at a damaged block. Writes to them succeed but do not repair them. Pause does not stop it.
func (s *Store) Damage(begin, end []byte) {
	s.dmu.Lock()
	defer s.dmu.Unlock()
	s.damaged = append(s.damaged, damagedRange{bytes.Clone(begin), bytes.Clone(end)})
}

// Mend ends all damage.
func (s *Store) Mend() {
	s.dmu.Lock()
	defer s.dmu.Unlock()
	s.damaged = nil
}

// DamagedFile is the file name in the errors of damaged rows.
const DamagedFile = "000042.sst"

// look returns the error of reading a row that is damaged.
func (s *Store) look(key []byte) error {
	s.dmu.RLock()
	defer s.dmu.RUnlock()
	for _, r := range s.damaged {
		if bytes.Compare(key, r.begin) >= 0 && bytes.Compare(key, r.end) < 0 {
			return &engine.Damage{File: DamagedFile, Err: errors.New("checksum mismatch")}
		}
	}
	return nil
}

// Crash makes all calls fail with ErrUnavailable, also those under way, until Restart. It returns the inner store,
// which the caller must close.
func (s *Store) Crash() engine.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	inner := s.inner
	s.inner = nil
	s.gen.cancel()
	s.spare.drop()
	return inner
}

// Restart ends a crash: calls go to inner.
func (s *Store) Restart(inner engine.Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inner, s.gen = inner, newGeneration()
}

// current returns the inner store, or ErrUnavailable after a crash.
func (s *Store) current() (engine.Store, *generation, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.inner == nil {
		return nil, s.gen, engine.ErrUnavailable
	}
	return s.inner, s.gen, nil
}

// ask returns the fault of a call.
func (s *Store) ask(ctx context.Context, op Op, key []byte) Fault {
	if s.o.Delay != nil {
		s.o.Delay(ctx, op)
	}
	n := s.calls.Add(1) - 1
	if s.off.Load() {
		return None
	}
	if s.o.Script != nil {
		if f, ok := s.o.Script(Call{Op: op, Key: key, N: n}); ok {
			return f
		}
	}
	return s.chance(op)
}

// chance draws the fault of a call.
func (s *Store) chance(op Op) Fault {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	x := s.r.Float64()
	hit := func(p float64) bool { x -= p; return x < 0 }
	if hit(s.o.Unavailable) {
		return Unavailable
	}
	if op == Snapshot || op == Begin || op == WaitChange {
		return None
	}
	if hit(s.o.TooOld) {
		return TooOld
	}
	if op != Commit {
		return None
	}
	if hit(s.o.Conflict / 2) {
		return Conflict
	}
	switch {
	case hit(s.o.Conflict / 2):
		return LateConflict
	case hit(s.o.UnknownLost):
		return UnknownLost
	case hit(s.o.UnknownCommitted):
		return UnknownCommitted
	}
	return None
}

// Limits implements engine.Store.
func (s *Store) Limits() engine.Limits {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var l engine.Limits
	if s.inner != nil {
		l = s.inner.Limits()
	}
	l.Pipelined = l.Pipelined && s.o.KeepPipelined
	if s.wire != nil && l.KeyBytes > 0 {
		l.KeyBytes -= s.wire.RootBytes
		l.RootBytes += s.wire.RootBytes
	}
	return l
}

// Snapshot implements engine.Store.
func (s *Store) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	if s.ask(ctx, Snapshot, nil) == Unavailable {
		return nil, engine.ErrUnavailable
	}
	inner, gen, err := s.current()
	if err != nil {
		return nil, err
	}
	if err := s.travel(ctx, TripVersion); err != nil {
		return nil, err
	}
	r, err := inner.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return &snapshot{reader{s: s, gen: gen, in: r, begun: time.Now()}, r}, nil
}

// Begin implements engine.Store.
func (s *Store) Begin(ctx context.Context) (engine.Txn, error) {
	if s.ask(ctx, Begin, nil) == Unavailable {
		return nil, engine.ErrUnavailable
	}
	inner, gen, err := s.current()
	if err != nil {
		return nil, err
	}
	if err := s.travel(ctx, TripVersion); err != nil {
		return nil, err
	}
	x, err := inner.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return newTxn(s, gen, x, time.Now()), nil
}

// WaitChange implements engine.Store.
func (s *Store) WaitChange(ctx context.Context, key, old []byte) error {
	if s.ask(ctx, WaitChange, key) == Unavailable {
		return engine.ErrUnavailable
	}
	inner, gen, err := s.current()
	if err != nil {
		return err
	}
	ctx, cancel := gen.join(ctx)
	defer cancel()
	return gen.err(inner.WaitChange(ctx, key, old))
}

// Close implements engine.Store.
func (s *Store) Close() error {
	inner, gen, err := s.current()
	if err != nil {
		return nil //nolint:nilerr // after a crash nothing is left to close
	}
	gen.cancel()
	s.spare.drop()
	return inner.Close()
}

// join returns ctx ended by the crash too.
func (g *generation) join(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(g.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// err returns ErrUnavailable for any error that a crash has caused.
func (g *generation) err(err error) error {
	if err != nil && g.ctx.Err() != nil {
		return engine.ErrUnavailable
	}
	return err
}
