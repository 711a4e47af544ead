package compactor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// The modes of --auto-compaction-mode.
const (
	ModePeriodic = "periodic"
	ModeRevision = "revision"
)

// RevisionInterval is the time between two compactions in mode revision (etcd's revInterval).
const RevisionInterval = 5 * time.Minute

// notesPerPeriod is how often per period mode periodic notes the head (etcd's retryDivisor).
const notesPerPeriod = 10

// Planner decides what to compact. Run calls Tick once at the start with since == 0, and then once per Interval.
type Planner interface {
	// Interval is the time between two ticks, > 0.
	Interval() time.Duration
	// Tick takes the head revision and the time since the start. It returns what to compact.
	Tick(head int64, since time.Duration) Ask
	// Done says that the compaction that the last Tick asked for has succeeded. since is the time since the start.
	Done(since time.Duration)
}

// Ask says what to compact: everything before revision Rev, or everything but the last Keep revisions. The zero Ask
// asks for nothing.
type Ask struct{ Rev, Keep int64 }

// Parse reads the two flags. If the retention is 0 or "", it returns a nil Planner: auto compaction is off. A plain
// number means hours in mode periodic and revisions in mode revision. Anything else is a Go duration, which mode
// revision refuses. (etcd would take its nanoseconds as a number of revisions.)
func Parse(mode, retention string) (Planner, error) {
	if mode != ModePeriodic && mode != ModeRevision {
		return nil, fmt.Errorf("auto-compaction-mode %q is not %s or %s", mode, ModePeriodic, ModeRevision)
	}
	if retention == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(retention)
	switch {
	case err == nil && n < 0:
		return nil, fmt.Errorf("auto-compaction-retention %q is negative", retention)
	case err == nil && n == 0:
		return nil, nil
	case err == nil && mode == ModeRevision:
		return NewRevision(int64(n)), nil
	case err == nil:
		return newPeriodicChecked(retention, time.Duration(n)*time.Hour)
	case mode == ModeRevision:
		return nil, fmt.Errorf("auto-compaction-retention %q is not a number of revisions", retention)
	}
	d, err := time.ParseDuration(retention)
	if err != nil {
		return nil, fmt.Errorf("auto-compaction-retention %q is neither hours nor a duration", retention)
	}
	if d == 0 {
		return nil, nil
	}
	return newPeriodicChecked(retention, d)
}

// periodMin keeps the planner from ticking in a busy loop.
const periodMin = notesPerPeriod * time.Millisecond

func newPeriodicChecked(retention string, d time.Duration) (Planner, error) {
	if d < periodMin {
		return nil, fmt.Errorf("auto-compaction-retention %q is below %v", retention, periodMin)
	}
	return NewPeriodic(d), nil
}

// Periodic is the planner of mode periodic. It keeps the history of a period. Make one with NewPeriodic.
type Periodic struct {
	period      time.Duration
	interval    time.Duration // between notes
	notesMax    int           // as many notes as fit in a period, and one
	notes       []int64       // heads, oldest first
	asked, last int64         // revision of the last ask and of the last success
	success     time.Duration // time of the last success
	wait        time.Duration // least time from one success to the next ask
}

// NewPeriodic returns a planner that keeps the last period of history, period > 0.
func NewPeriodic(period time.Duration) *Periodic {
	interval := min(period, time.Hour) / notesPerPeriod
	return &Periodic{
		period:   period,
		interval: interval,
		notesMax: int(period/interval) + 1,
		wait:     period,
	}
}

// Interval implements Planner.
func (p *Periodic) Interval() time.Duration { return p.interval }

// Tick implements Planner. A note is used from the tick after it on. So a note is compacted at when it is at least a
// period old, never earlier.
func (p *Periodic) Tick(head int64, since time.Duration) Ask {
	compact := int64(0)
	if len(p.notes) > 0 && since-p.success >= p.wait && p.notes[0] != p.last {
		compact = p.notes[0]
		// The first compaction waits for a whole period; later ones come every hour if the period is longer.
		p.wait = min(p.period, time.Hour)
		p.asked = compact
	}
	p.notes = append(p.notes, head)
	if len(p.notes) > p.notesMax {
		p.notes = append(p.notes[:0], p.notes[1:]...)
	}
	return Ask{Rev: compact}
}

// Done implements Planner.
func (p *Periodic) Done(since time.Duration) { p.last, p.success = p.asked, since }

// Revision is the planner of mode revision. It keeps a number of revisions. Make one with NewRevision.
type Revision struct {
	keep    int64
	started bool
}

// NewRevision returns a planner that keeps the last keep revisions.
func NewRevision(keep int64) *Revision { return &Revision{keep: keep} }

// Interval implements Planner.
func (r *Revision) Interval() time.Duration { return RevisionInterval }

// Tick implements Planner. The tick at start only starts the clock.
func (r *Revision) Tick(int64, time.Duration) Ask {
	if !r.started {
		r.started = true
		return Ask{}
	}
	return Ask{Keep: r.keep}
}

// Done implements Planner.
func (r *Revision) Done(time.Duration) {}

// Store is the keyspace that is compacted.
type Store interface {
	// Head is the last committed revision.
	Head(ctx context.Context) (int64, error)
	// Behind returns the revision that has n revisions after it, or 0 if there are fewer. Gaps between the numbers of
	// revisions do not count.
	Behind(ctx context.Context, n int64) (int64, error)
	// Compact drops what is older than rev. If physical is true, it returns only when that is removed.
	Compact(ctx context.Context, rev int64, physical bool) (head int64, err error)
}

// Run runs p on s until ctx ends. compacted is the error that s returns for a revision that has been compacted before;
// Run counts it as success. Run logs a failure and tries again at the next tick.
func Run(ctx context.Context, log *slog.Logger, p Planner, s Store, compacted error) {
	r := runner{log: log, planner: p, store: s, compacted: compacted, start: time.Now()}
	ticker := time.NewTicker(p.Interval())
	defer ticker.Stop()
	for {
		if err := r.tick(ctx); err != nil && ctx.Err() == nil {
			log.Warn("failed auto compaction", "retry-interval", p.Interval().String(), "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// runner is a call of Run.
type runner struct {
	log       *slog.Logger
	planner   Planner
	store     Store
	compacted error
	start     time.Time
	last      int64 // the last revision that has been compacted at
}

func (r *runner) tick(ctx context.Context) error {
	head, err := r.store.Head(ctx)
	if err != nil {
		return fmt.Errorf("reading the head revision: %w", err)
	}
	ask := r.planner.Tick(head, time.Since(r.start))
	rev := ask.Rev
	if ask.Keep > 0 {
		if rev, err = r.store.Behind(ctx, ask.Keep); err != nil {
			return fmt.Errorf("counting %d revisions: %w", ask.Keep, err)
		}
	}
	if rev <= 0 || rev == r.last {
		return nil
	}
	began := time.Now()
	if _, err = r.store.Compact(ctx, rev, false); err != nil && !errors.Is(err, r.compacted) {
		return fmt.Errorf("revision %d: %w", rev, err)
	}
	r.last = rev
	r.planner.Done(time.Since(r.start))
	r.log.Info("completed auto compaction", "revision", rev, "took", time.Since(began).String())
	return nil
}
