package feed

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/pulse"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Limits and times of a Follower.
const (
	// DefaultWindowEntries and DefaultWindowBytes bound the entries before the head that are read at the start. With
	// them, clients that resume need not each read the log.
	DefaultWindowEntries = 10_000
	DefaultWindowBytes   = 16 << 20
	// DefaultPoll is how long the follower waits for a frame before it asks the store to report the next change of the
	// head, and silenceFactor times that before it reads the log itself. A tailer without entries sends few heartbeats,
	// so a silent bus says little; but when the head changes, a frame must come within LateFrame.
	DefaultPoll   = 500 * time.Millisecond
	silenceFactor = 5
	// LateFrame is how long after a change of the head the follower waits for the frame that reports it.
	LateFrame = 200 * time.Millisecond
	// DirectPause is the shortest time between two reads while there is a bus but no frames come. All hubs read the log
	// then.
	DirectPause = 20 * time.Millisecond
	// DefaultCheck is about how often the position is compared with the head.
	DefaultCheck = time.Second
	// DefaultStallAfter is the Lag from which the follower counts as stalled.
	DefaultStallAfter = 10 * time.Second
	// InboxBytes bounds the frames that have arrived and were not looked at yet.
	InboxBytes = 64 << 20
	// applyEntries is roughly how many entries Apply gets in one call, if there are so many.
	applyEntries = 1024
)

// FollowerOptions configure a Follower. The zero value of a field means its default. Reset and Apply are required, and
// so is Keyspace if there is a bus.
type FollowerOptions struct {
	// Keyspace is the name on the bus: see Name.
	Keyspace string

	// Reset is called before the first Apply. The entries after position will be applied, and the log is complete up to
	// position. If Reset is called again, this follower has lost the entries between the last one applied and position.
	// Then all streams have to end, and what is kept in memory or in a cache has to start again after position.
	Reset func(position int64)
	// Apply gets the entries after Reset's position, each once and in order, as the log has them. All of them can be
	// decoded. It may keep them: the memory that they refer to never changes.
	Apply func([]revlog.Payload)
	// Auth, if set, is called with a number of users and roles before Apply gets the first entries that may have been
	// written under them. It returns the number of those that it has read itself, because a frame may be wrong.
	Auth func(number uint64) (known uint64)
	// Compact, if set, is called when the follower learns of a greater compact revision.
	Compact func(rev int64)
	// Stall, if set, is called when Stalled changes. With true the streams should end, so that clients resume on
	// another hub. It has a goroutine of its own and must not wait for the other callbacks.
	Stall func(stalled bool)

	// WindowEntries and WindowBytes are as DefaultWindowEntries says. Negative: no window.
	WindowEntries, WindowBytes int
	Poll, Check, StallAfter    time.Duration
	// Pulse is the beat with which the position is compared with the head. Default: none.
	Pulse  *pulse.Pulse
	Logger *slog.Logger
}

// Follower applies the log. It is used for one Run.
type Follower struct {
	log Log
	bus bus.Bus
	o   FollowerOptions

	inbox inbox
	ready chan struct{}
	fresh freshness

	// Used by Run only.
	chain   chain
	batch   []revlog.Payload // checked, not applied yet
	compact int64
	auth    uint64    // newest number of the users and roles that is known
	readAt  time.Time // start of the last read of the log

	position atomic.Int64
	count    followerCounters
}

// NewFollower returns a follower of the log. Without a bus (nil) it reads the log whenever the head changes.
func NewFollower(log Log, b bus.Bus, o FollowerOptions) *Follower {
	setDefault(&o.WindowEntries, DefaultWindowEntries)
	setDefault(&o.WindowBytes, DefaultWindowBytes)
	setDefault(&o.Poll, DefaultPoll)
	setDefault(&o.Check, DefaultCheck)
	setDefault(&o.StallAfter, DefaultStallAfter)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Follower{log: log, bus: b, o: o, ready: make(chan struct{}), chain: chain{check: log.Check}}
	f.inbox.arrived = make(chan struct{}, 1)
	f.fresh.init()
	return f
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Ready returns a channel that is closed when the window has been applied, and everything that was committed before the
// start.
func (f *Follower) Ready() <-chan struct{} { return f.ready }

// Position returns the revision up to which every entry has been applied.
func (f *Follower) Position() int64 { return f.position.Load() }

// Lag returns the age of the newest state that has certainly been applied: everything that was acknowledged before
// then. On a healthy follower it is below twice the options' Check.
func (f *Follower) Lag() time.Duration { return f.fresh.lag() }

// Stalled says whether Lag is above StallAfter.
func (f *Follower) Stalled() bool { return f.Lag() > f.o.StallAfter }

// Run applies the log until ctx ends. It fails only if it cannot subscribe.
func (f *Follower) Run(ctx context.Context) error {
	if f.bus != nil {
		cancel, err := f.bus.Subscribe(f.o.Keyspace, f.receive)
		if err != nil {
			return err
		}
		defer cancel()
	}
	ctx, stop := context.WithCancel(ctx)
	w := newWaiter()
	var wg sync.WaitGroup
	wg.Go(func() { w.run(ctx, f.log) })
	wg.Go(func() { f.check(ctx) })
	defer wg.Wait()
	defer stop()

	r := newPauses()
	for ctx.Err() == nil {
		if err := f.begin(ctx); err != nil {
			f.o.Logger.Warn("follower: cannot read the log; will retry", "error", err)
			_ = r.Wait(ctx)
			continue
		}
		r.Reset()
		f.follow(ctx, w)
	}
	return nil
}

// follow applies frames and reads until ctx ends or history is lost.
func (f *Follower) follow(ctx context.Context, w *waiter) {
	poll := time.NewTimer(f.o.Poll)
	defer poll.Stop()
	late := time.NewTimer(0) // LateFrame after a change of the head
	late.Stop()
	defer late.Stop()
	lastFrame := time.Now()
	direct, due := f.bus == nil, true // due: the log must be read
	now := make(chan struct{})
	close(now)
	r := newPauses()
	damaged := int64(-1) // the position at which damage has been reported
	wanted := int64(0)   // the head may have reached it
	for ctx.Err() == nil {
		var err error
		if due {
			due, err = f.readLog(ctx)
		}
		var again <-chan struct{}
		if due {
			again = now
		} else if direct {
			w.ask(f.chain.at + 1)
		}
		if err == nil {
			select {
			case <-again:
			case <-f.inbox.arrived:
				lastFrame, direct = time.Now(), false
				err = f.takeFrames(ctx)
			case <-w.fired:
				if rev := w.took(); direct {
					f.restrain(ctx)
					due = true
				} else {
					poll.Reset(f.o.Poll) // the store is asked again only then
					if rev > f.chain.at {
						wanted = rev
						late.Reset(LateFrame)
					}
				}
			case <-late.C:
				if f.chain.at < wanted {
					direct, due = true, true
				}
			case <-poll.C:
				next := f.o.Poll
				switch silent := time.Since(lastFrame); {
				case f.bus == nil || silent >= silenceFactor*f.o.Poll:
					direct, due = true, true
				case silent >= f.o.Poll:
					w.ask(f.chain.at + 1)
					next = silenceFactor*f.o.Poll - silent
				default:
					next -= silent
				}
				poll.Reset(next)
			case <-f.fresh.behind:
				due = true
			case <-f.fresh.ahead:
				err = errAhead
			case <-ctx.Done():
				return
			}
		}
		switch {
		case err == nil:
			r.Reset()
		case errors.Is(err, mvcc.ErrCompacted), errors.Is(err, errAhead):
			f.o.Logger.Error(
				"follower: history is lost, starting again at the head", "error", err, "revision", f.chain.at,
			)
			return
		case isDamage(err):
			// Watchers cannot be served beyond it, here or elsewhere. Their streams end because the hub is behind
			// (Stall).
			if damaged != f.chain.at {
				damaged = f.chain.at
				f.o.Logger.Error("follower: cannot read the log any further",
					"error", err, "revision", f.chain.at, "retry", DamagedRetry)
			}
			due = true
			_ = retry.Sleep(ctx, DamagedRetry)
		case ctx.Err() == nil:
			f.o.Logger.Warn("follower: cannot read the log; will retry", "error", err, "revision", f.chain.at)
			due = true
			_ = r.Wait(ctx)
		}
	}
}

// restrain waits until DirectPause after the last read of the log, if other hubs read it too.
func (f *Follower) restrain(ctx context.Context) {
	if f.bus != nil {
		_ = retry.Sleep(ctx, DirectPause-time.Since(f.readAt))
	}
}

// takeFrames applies the frames that have arrived.
func (f *Follower) takeFrames(ctx context.Context) error {
	defer f.flush()
	for _, frame := range f.inbox.take() {
		f.count.frames.Add(1)
		if err := f.takeFrame(ctx, frame); err != nil {
			return err
		}
		f.hearOf(frame.Compact)
		if len(f.batch) >= applyEntries {
			f.flush()
		}
	}
	return nil
}

func (f *Follower) takeFrame(ctx context.Context, frame *bus.Frame) error {
	if !frame.Valid() {
		f.count.strange.Add(1)
		return nil
	}
	s := span{prev: frame.Prev, upto: frame.Upto, entries: frame.Entries}
	f.hearOfAuth(frame.Auth)
	for {
		fresh, v, need := f.chain.offer(s)
		f.add(fresh)
		switch v {
		case extended:
			return nil
		case old:
			if len(s.entries) > 0 {
				f.count.duplicates.Add(1)
			}
			return nil
		case gap:
			f.count.gaps.Add(1)
			f.flush()
			if err := f.fill(ctx, need); errors.Is(err, errBeyond) {
				f.count.strange.Add(1)
				f.o.Logger.Warn(
					"follower: ignored a frame from beyond the log's end", "revision", need, "ballot", frame.Ballot,
				)
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

// Results of a read of the log, beside the log's own errors.
var (
	errBeyond = errors.New("feed: the log ends before a frame's revisions")
	errAhead  = errors.New("feed: the position is beyond the log's end")
	errHole   = errors.New("feed: an entry of the log cannot be read")
)

// fill reads the log at least up to rev. Errors: errBeyond, those of readLog.
func (f *Follower) fill(ctx context.Context, rev int64) error {
	for f.chain.at < rev {
		before := f.chain.at
		if _, err := f.readLog(ctx); err != nil {
			return err
		}
		if f.chain.at == before {
			return errBeyond
		}
	}
	return nil
}

// readLog reads the next part of the log and applies it. more says that there may be more. Errors: errHole, those of
// the log.
func (f *Follower) readLog(ctx context.Context) (more bool, err error) {
	f.readAt = time.Now()
	s, compact, err := read(ctx, f.log, f.chain.at, ReadEntries, ReadBytes)
	if err != nil {
		return false, err
	}
	f.count.reads.Add(1)
	f.hearOfAuth(s.auth)
	fresh, v, _ := f.chain.offer(s)
	f.count.refilled.Add(int64(len(fresh)))
	f.add(fresh)
	f.flush()
	f.hearOf(compact)
	if v == gap {
		return false, errHole
	}
	return s.cut(), nil
}

// add appends entries to those that wait to be applied.
func (f *Follower) add(fresh []revlog.Payload) {
	if len(f.batch) == 0 {
		f.batch = fresh
		return
	}
	f.batch = append(f.batch, fresh...)
}

// flush applies the entries that wait.
func (f *Follower) flush() {
	if len(f.batch) > 0 {
		f.o.Apply(f.batch)
		f.count.entries.Add(int64(len(f.batch)))
		f.batch = nil
	}
	f.position.Store(f.chain.at)
	f.fresh.reached(f.chain.at)
}

// hearOfAuth calls Auth, after everything written under older users and roles has been applied.
func (f *Follower) hearOfAuth(number uint64) {
	if number <= f.auth {
		return
	}
	f.flush()
	if f.o.Auth != nil {
		f.auth = f.o.Auth(number)
	}
}

// hearOf passes on a compact revision. A revision beyond the position is not believed until the position has reached
// it.
func (f *Follower) hearOf(rev int64) {
	if rev > f.compact && rev <= f.chain.at {
		f.compact = rev
		if f.o.Compact != nil {
			f.o.Compact(rev)
		}
	}
}
