package backup

import (
	"context"
	"log/slog"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// Pauses after a failed backup.
const (
	pauseMin = 5 * time.Second
	pauseMax = 5 * time.Minute
)

// Runner takes backups by a schedule, and removes backups that retention does not keep.
type Runner struct {
	Repository *Repository
	Source     Source
	Keyspace   string
	Schedule   Schedule
	Keep       Keep
	Log        *slog.Logger
	Now        func() time.Time

	full, last time.Time // when this Runner last took a backup
}

// Run runs until ctx ends, and returns the error of ctx. It logs what fails and tries again.
func (r *Runner) Run(ctx context.Context) error {
	pause := pauseMin
	for {
		wait, err := r.step(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			r.Log.Error("the backup failed and will be tried again", "error", err, "in", pause)
			wait, pause = pause, min(2*pause, pauseMax)
		default:
			pause = pauseMin
		}
		if err := retry.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// step takes the backup that is due, if any, and returns the time until the next one.
func (r *Runner) step(ctx context.Context) (time.Duration, error) {
	ms, bad, err := r.Repository.List(ctx)
	if err != nil {
		return 0, err
	}
	for _, b := range bad {
		r.Log.Warn("a manifest cannot be used", "name", b.Name, "error", b.Err)
	}
	full, last := r.times(ms)
	kind, at := r.Schedule.Next(full, last, r.Now())
	if wait := at.Sub(r.Now()); wait > 0 {
		return wait, nil
	}
	t, err := r.Repository.Take(ctx, r.Source, r.Keyspace, kind, r.Now)
	if err != nil {
		return 0, err
	}
	if t.Why != "" {
		r.Log.Warn("a full backup was taken because a log was not possible", "reason", t.Why)
	}
	r.Log.Info("a backup was taken", "id", t.ID, "kind", t.Kind, "revision", t.Revision, "bytes", t.Bytes)
	if r.last = r.Now(); t.Kind != Full {
		return 0, nil
	}
	r.full = r.last
	if err := r.prune(ctx); err != nil && ctx.Err() == nil { // the backup is there, and the next one must not wait
		r.Log.Error("old backups could not be removed, which is tried again after the next full backup", "error", err)
	}
	return 0, nil
}

func (r *Runner) prune(ctx context.Context) error {
	gone, err := r.Repository.Expired(ctx, r.Keep, r.Now())
	if err != nil {
		return err
	}
	for _, m := range gone {
		if err := r.Repository.Remove(ctx, m); err != nil {
			return err
		}
		r.Log.Info("a backup was removed", "id", m.ID)
	}
	left, err := r.Repository.Sweep(ctx, r.Now())
	if len(left) > 0 {
		r.Log.Info("leftovers of unfinished backups were removed", "objects", left)
	}
	return err
}

// times returns the times of the newest full backup and of the newest backup. A time in the future comes from a wrong
// clock and must not stop backups. Then the backups that this Runner has taken count.
func (r *Runner) times(ms []Manifest) (full, last time.Time) {
	for _, m := range ms {
		if m.Kind == Full {
			full = m.Time
		}
		last = m.Time
	}
	now := r.Now()
	if full.After(now) {
		full = r.full
	}
	if last.After(now) {
		last = r.last
	}
	return full, last
}
