package feed

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// windowStep is the factor by which the search for the window's beginning moves.
const windowStep = 4

// begin reads the head and the window before it, and applies the window.
func (f *Follower) begin(ctx context.Context) error {
	f.fresh.restart()
	began := time.Now()
	h, err := head(ctx, f.log)
	if err != nil {
		return err
	}
	s, err := f.window(ctx, h)
	if err != nil {
		return err
	}
	// An entry that cannot be decoded is left out, and all before it. Perhaps nobody needs them.
	entries := s.entries
	for i := len(entries) - 1; i >= 0; i-- {
		if err := f.log.Check(entries[i]); err != nil {
			f.o.Logger.Error(
				"follower: the window begins after a damaged entry", "error", err, "revision", entries[i].Rev,
			)
			s.prev, entries = entries[i].Rev, entries[i+1:]
			break
		}
	}
	if len(entries) == 0 {
		s.prev = s.upto // as on a new keyspace: nothing is missing, and the position is not below the head
	}
	f.chain.at, f.batch = s.upto, entries
	f.position.Store(s.prev)
	f.count.resets.Add(1)
	f.o.Reset(s.prev)
	f.flush()
	f.fresh.compare(h, h, s.upto, began)
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
	return nil
}

// window returns the end of the log, up to the head at least. It is as much as the bounds allow, within a factor of
// windowStep. How many revisions have that many entries is not known, so window tries: it goes further back as long as
// the entries fit, and less far if they do not.
func (f *Follower) window(ctx context.Context, head int64) (span, error) {
	best := span{prev: head, upto: head}
	if f.o.WindowEntries < 0 || f.o.WindowBytes < 0 {
		return best, nil
	}
	floor := int64(1)
	shrinking := false
	for back := int64(f.o.WindowEntries); back > 0; {
		from := max(floor, head-back+1)
		s, compact, err := f.load(ctx, from, head)
		if err != nil && !errors.Is(err, mvcc.ErrCompacted) && !errors.Is(err, errWindow) {
			return span{}, err
		}
		floor = max(floor, compact)
		fits := err == nil
		if fits {
			best = s
		}
		switch {
		case fits && (shrinking || from <= floor), !fits && best.prev < head:
			return best, nil
		case fits && back > math.MaxInt64/windowStep:
			return best, nil
		case fits:
			back *= windowStep
		default:
			shrinking = true
			back /= windowStep
		}
	}
	return best, nil
}

// errWindow: there are too many entries for a window.
var errWindow = errors.New("feed: beyond the window's bounds")

// load reads the log from a revision, up to the head at least. Errors: errWindow, those of the log.
func (f *Follower) load(ctx context.Context, from, head int64) (s span, compact int64, err error) {
	s = span{prev: from - 1, upto: from - 1}
	bytes := 0
	for s.upto < head {
		step, c, err := read(ctx, f.log, s.upto, ReadEntries, ReadBytes)
		compact = max(compact, c)
		if err != nil {
			return span{}, compact, err
		}
		if step.upto == s.upto {
			return span{}, compact, errHole // the head was read before, so the log cannot end here
		}
		for _, p := range step.entries {
			bytes += len(p.Bytes)
		}
		s.entries = append(s.entries, step.entries...)
		s.upto = step.upto
		if len(s.entries) > f.o.WindowEntries || bytes > f.o.WindowBytes {
			return span{}, compact, errWindow
		}
	}
	return s, compact, nil
}
