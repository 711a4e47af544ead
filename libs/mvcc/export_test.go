package mvcc

import (
	"context"
	"time"
)

// SweepUnchanged deletes the commit rows that are as they were in last.
func (s *Store) SweepUnchanged(ctx context.Context, last map[string][]byte) (kept map[string][]byte, err error) {
	return s.sweepUnchanged(ctx, last)
}

// RemoveBatch removes some entries from revision from on, below target.
func (s *Store) RemoveBatch(ctx context.Context, from, target int64) (next int64, err error) {
	next, _, _, err = s.removeBatch(ctx, from, target)
	return next, err
}

// Waiting returns how many requests wait for a group.
func (s *Store) Waiting() int { return s.queue.waiting() }

// Reserved returns what requests under way hold of the quota.
func (s *Store) Reserved() int64 { return s.live.reserved.Load() }

// Fits says that a put makes nothing that could not be changed later.
func (s *Store) Fits(p *PutRequest) bool { return s.fits(p) }

// StepBuckets does what is to be done about the buckets of the count index, as much as fits one transaction; more says
// that there was anything.
func (s *Store) StepBuckets(ctx context.Context) (more bool, err error) {
	_, did, err := s.stepBuckets(ctx, false, true)
	return did > stepTooEarly, err
}

// BeginSplits does what may be done about the buckets while groups are under way that have not seen the last change;
// more says that there was anything.
func (s *Store) BeginSplits(ctx context.Context) (more bool, err error) {
	_, did, err := s.stepBuckets(ctx, true, true)
	return did > stepTooEarly, err
}

// GoOnSplitting is BeginSplits that begins no more of them.
func (s *Store) GoOnSplitting(ctx context.Context) (more bool, err error) {
	_, did, err := s.stepBuckets(ctx, true, false)
	return did > stepTooEarly, err
}

// Buckets returns how many buckets the count index has, as far as this Store knows.
func (s *Store) Buckets() int {
	if b := s.buckets.Load(); b != nil {
		return len(b.starts)
	}
	return 0
}

// Sealed returns the number of the change of the buckets that the last seal was about, as far as this Store knows.
func (s *Store) Sealed() uint64 {
	if b := s.buckets.Load(); b != nil {
		return b.sealed
	}
	return 0
}

// ForgetSizes makes the next question about sizes one for the engine.
func ForgetSizes(s *Store) { s.live.others.asked.Store(&time.Time{}) }

// Forsake ends the renewals of a dump, whose hold stays.
func Forsake(d *Dump) {
	d.stop()
	<-d.kept
}

// SetBatch bounds the events of a batch.
func (im *Import) SetBatch(events int) { im.far.events = events }

// Going tells how many versions and tombstones are there from an import that was interrupted.
func (im *Import) Going() int64 { return im.there() }

// NoWholeWait has reads fail at once while a revision is being written in parts.
func (s *Store) NoWholeWait() { s.wholeWait = 0 }
