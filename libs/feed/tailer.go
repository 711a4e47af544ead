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
)

// Times of a Tailer.
const (
	// DefaultHeartbeat is the longest pause between two frames soon after entries: the first heartbeatsSoon heartbeats
	// tell followers that have lost the last entries. After them the pause is heartbeatIdleFactor times as long,
	// because each heartbeat wakes up all hubs.
	DefaultHeartbeat    = 200 * time.Millisecond
	heartbeatsSoon      = 3
	heartbeatIdleFactor = 5
	// DefaultTailerPoll is how often the tailer reads the log if nothing reports new entries. After a read that found
	// nothing the pause is pollIdleFactor times as long: nudges and the store report a change much sooner, and a hub
	// that finds itself behind the head reads the log.
	DefaultTailerPoll = 500 * time.Millisecond
	pollIdleFactor    = 10
	// nudgesTrusted is how long the tailer waits for another nudge after one. Only then does it also ask the store to
	// report a change, which costs the store and the tailer more than the next read.
	nudgesTrusted = 10 * time.Millisecond
	// paceEntry and paceMax bound the pause between a read that has found something and the next: paceEntry for each
	// entry found, paceMax at most. A read costs the store and this process far more than the entries in it, so under
	// load it pays to let more entries gather. Watchers see them later by less than a put takes under such load. After
	// a single entry there is nearly no pause.
	paceEntry = 200 * time.Microsecond
	paceMax   = 20 * time.Millisecond
)

// TailerOptions configure a Tailer. The zero value of a field means its default. Keyspace is required.
type TailerOptions struct {
	// Keyspace is the name on the bus: see Name.
	Keyspace string
	// Ballot is the term in which this tailer leads.
	Ballot uint64
	// From is the revision after which the tailer begins; 0: the log's head when Run begins.
	From int64
	// Heartbeat and Poll: see DefaultHeartbeat, DefaultTailerPoll. The heartbeat should be below half of the
	// followers' Poll, which has the same factor when there are no entries.
	Heartbeat, Poll time.Duration
	Logger          *slog.Logger
}

// Tailer publishes the log. It is used for one Run.
type Tailer struct {
	log      Log
	bus      bus.Bus
	o        TailerOptions
	at       int64 // everything up to it has been published
	compact  int64
	lastSent time.Time
	sent     int           // heartbeats since the last entries
	readAt   time.Time     // begin of the last read
	pause    time.Duration // from then to the next
	nudged   bool          // a nudge ended the last wait
	idle     time.Duration // the longest duration of the next wait

	position, frames, entries, bytes, heartbeats, lost, wakeups, reads, jumps atomic.Int64
}

// NewTailer returns a tailer of the log.
func NewTailer(log Log, b bus.Bus, o TailerOptions) *Tailer {
	if o.Heartbeat <= 0 {
		o.Heartbeat = DefaultHeartbeat
	}
	if o.Poll <= 0 {
		o.Poll = DefaultTailerPoll
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Tailer{log: log, bus: b, o: o}
}

// Run publishes the log until ctx ends. It fails only if it cannot subscribe to nudges.
func (t *Tailer) Run(ctx context.Context) error {
	nudged := make(chan struct{}, 1)
	cancel, err := t.bus.OnNudge(t.o.Keyspace, func() { signal(nudged) })
	if err != nil {
		return err
	}
	defer cancel()
	ctx, stop := context.WithCancel(ctx)
	w := newWaiter()
	var wg sync.WaitGroup
	wg.Go(func() { w.run(ctx, t.log) })
	defer wg.Wait()
	defer stop()

	r := newPauses()
	damaged := int64(-1) // the position at which damage has been reported
	begun := t.o.From > 0
	t.moveTo(t.o.From)
	for ctx.Err() == nil {
		if !begun {
			if begun = t.jump(ctx); !begun {
				_ = r.Wait(ctx)
				continue
			}
		}
		more, err := t.publish(ctx)
		switch {
		case err == nil:
			r.Reset()
			if !more {
				_ = retry.Sleep(ctx, t.pause-time.Since(t.readAt))
				t.wait(ctx, w, nudged)
			}
		case errors.Is(err, mvcc.ErrCompacted):
			// Entries after the position have been removed. Followers see a gap there, which they cannot fill either.
			t.o.Logger.Error("tailer: entries of the log were removed before they were published", "revision", t.at)
			t.jumps.Add(1)
			begun = false
		case isDamage(err):
			// The store has reported the damage, which raises the alarm. Nothing behind it can be published, because
			// the chain would have a hole.
			if damaged != t.at {
				damaged = t.at
				t.o.Logger.Error("tailer: cannot read the log any further",
					"error", err, "revision", t.at, "retry", DamagedRetry)
			}
			_ = retry.Sleep(ctx, DamagedRetry)
		case ctx.Err() == nil:
			t.o.Logger.Warn("tailer: cannot read the log; will retry", "error", err)
			_ = r.Wait(ctx)
		}
	}
	return nil
}

// jump moves the position to the head.
func (t *Tailer) jump(ctx context.Context) bool {
	h, err := head(ctx, t.log)
	if err == nil {
		t.moveTo(h)
	}
	return err == nil
}

// publish reads once and sends what it has read. more says that there may be more.
func (t *Tailer) publish(ctx context.Context) (more bool, err error) {
	t.reads.Add(1)
	t.readAt = time.Now()
	s, compact, err := read(ctx, t.log, t.at, ReadEntries, ReadBytes)
	if err != nil {
		return false, err
	}
	t.compact = max(t.compact, compact)
	t.pause = min(time.Duration(len(s.entries))*paceEntry, paceMax)
	t.idle = pollIdleFactor * t.o.Poll
	if s.upto > t.at {
		t.idle = t.o.Poll
		t.send(s)
		t.moveTo(s.upto)
	}
	return s.cut(), nil
}

// send publishes a frame. An empty span makes a heartbeat.
func (t *Tailer) send(s span) {
	t.lastSent = time.Now()
	if t.sent++; len(s.entries) > 0 {
		t.sent = 0
	}
	t.frames.Add(1)
	t.entries.Add(int64(len(s.entries)))
	for _, p := range s.entries {
		t.bytes.Add(int64(len(p.Bytes)))
	}
	err := t.bus.Publish(&bus.Frame{
		Keyspace: t.o.Keyspace,
		Ballot:   t.o.Ballot,
		Prev:     s.prev,
		Upto:     s.upto,
		Compact:  t.compact,
		Entries:  s.entries,
		Auth:     s.auth,
	})
	if err != nil {
		t.lost.Add(1)
	}
}

// wait returns when there may be something to read. Until then it sends heartbeats, but only while reads succeed. So a
// tailer that cannot read the log does not keep followers from reading it themselves.
func (t *Tailer) wait(ctx context.Context, w *waiter, nudged <-chan struct{}) {
	poll := time.NewTimer(t.idle)
	defer poll.Stop()
	beat := time.NewTimer(t.heartbeat() - time.Since(t.lastSent))
	defer beat.Stop()
	if !t.nudged {
		w.ask(t.at + 1)
	}
	ask := time.NewTimer(nudgesTrusted)
	defer ask.Stop()
	for {
		select {
		case <-nudged:
			t.wakeups.Add(1)
			t.nudged = true
			return
		case <-ask.C:
			w.ask(t.at + 1)
		case <-w.fired:
			if w.took() > t.at { // otherwise a nudge has reported the change already
				t.wakeups.Add(1)
				t.nudged = false
				return
			}
			ask.Reset(nudgesTrusted)
		case <-beat.C:
			t.heartbeats.Add(1)
			t.send(span{prev: t.at, upto: t.at, auth: t.log.AuthNumber()})
			beat.Reset(t.heartbeat())
		case <-poll.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// heartbeat is the longest pause before the next frame.
func (t *Tailer) heartbeat() time.Duration {
	if t.sent >= heartbeatsSoon {
		return heartbeatIdleFactor * t.o.Heartbeat
	}
	return t.o.Heartbeat
}

func (t *Tailer) moveTo(rev int64) {
	t.at = rev
	t.position.Store(rev)
}
