package compactor

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestParse(t *testing.T) {
	for _, c := range []struct {
		mode, retention string
		interval        time.Duration // 0: off
		err             string
	}{
		{mode: "periodic", retention: "0"},
		{mode: "periodic", retention: ""},
		{mode: "revision", retention: "0"},
		{mode: "periodic", retention: "0s"},
		{mode: "periodic", retention: "1", interval: 6 * time.Minute},
		{mode: "periodic", retention: "24", interval: 6 * time.Minute},
		{mode: "periodic", retention: "5m", interval: 30 * time.Second},
		{mode: "periodic", retention: "2h30m", interval: 6 * time.Minute},
		{mode: "revision", retention: "1000", interval: RevisionInterval},
		{mode: "revision", retention: "5m", err: "not a number of revisions"},
		{mode: "periodic", retention: "-1", err: "negative"},
		{mode: "periodic", retention: "-1m", err: "below"},
		{mode: "periodic", retention: "1ns", err: "below"},
		{mode: "periodic", retention: "x", err: "neither hours nor a duration"},
		{mode: "hourly", retention: "1", err: "is not periodic or revision"},
	} {
		t.Run(c.mode+"/"+c.retention, func(t *testing.T) {
			p, err := Parse(c.mode, c.retention)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got time.Duration
			if p != nil {
				got = p.Interval()
			}
			if got != c.interval {
				t.Fatalf("interval %v, want %v", got, c.interval)
			}
		})
	}
}

// store counts revisions by itself and records what it is asked to compact.
type store struct {
	mu       sync.Mutex
	start    time.Time
	perTick  time.Duration // the head grows by one each
	frozen   int64         // if not 0: the head stands still here
	sparse   bool          // of five numbers one is a revision
	fail     int           // that many compactions fail
	err      error         // with this
	compacts []compaction
}

type compaction struct {
	At  time.Duration
	Rev int64
}

func (s *store) Head(context.Context) (int64, error) {
	if s.frozen != 0 {
		return s.frozen, nil
	}
	return 1 + int64(time.Since(s.start)/s.perTick), nil
}

// Behind finds gaps of four between two revisions where the store is sparse.
func (s *store) Behind(ctx context.Context, n int64) (int64, error) {
	head, err := s.Head(ctx)
	if s.sparse {
		n *= 5
	}
	return max(head-n, 0), err
}

func (s *store) Compact(_ context.Context, rev int64, physical bool) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if physical {
		return 0, errors.New("auto compaction must not wait for the sweep")
	}
	s.compacts = append(s.compacts, compaction{time.Since(s.start), rev})
	if s.fail > 0 {
		s.fail--
		return 0, s.err
	}
	return 0, nil
}

var errCompacted = errors.New("compacted before")

// run drives p over s for d of fake time.
func run(t *testing.T, p Planner, s *store, d time.Duration) []compaction {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.start = time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			Run(ctx, slog.New(slog.DiscardHandler), p, s, errCompacted)
		}()
		time.Sleep(d)
		cancel()
		<-done
	})
	return s.compacts
}

func TestPeriodicHour(t *testing.T) {
	// One revision a minute, an hour kept: at each full hour the oldest note is compacted at. It is an hour old the
	// first time, and one interval older from then on, exactly as etcd's window is.
	got := run(t, NewPeriodic(time.Hour), &store{perTick: time.Minute}, 3*time.Hour+time.Minute)
	want := []compaction{{time.Hour, 1}, {2 * time.Hour, 55}, {3 * time.Hour, 115}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPeriodicLong(t *testing.T) {
	// Four hours kept: nothing for four hours, then every hour.
	got := run(t, NewPeriodic(4*time.Hour), &store{perTick: time.Minute}, 6*time.Hour+time.Minute)
	want := []compaction{{4 * time.Hour, 1}, {5 * time.Hour, 55}, {6 * time.Hour, 115}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPeriodicRetriesAtNextNote(t *testing.T) {
	s := &store{perTick: time.Second, fail: 1, err: errors.New("no")}
	got := run(t, NewPeriodic(10*time.Minute), s, 12*time.Minute+time.Second)
	want := []compaction{{10 * time.Minute, 1}, {11 * time.Minute, 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCompactedBeforeIsSuccess(t *testing.T) {
	s := &store{perTick: time.Second, fail: 1, err: errCompacted}
	got := run(t, NewPeriodic(10*time.Minute), s, 19*time.Minute)
	if diff := cmp.Diff([]compaction{{10 * time.Minute, 1}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPeriodicIdle(t *testing.T) {
	got := run(t, NewPeriodic(10*time.Minute), &store{frozen: 77}, 24*time.Hour)
	if diff := cmp.Diff([]compaction{{10 * time.Minute, 77}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRevision(t *testing.T) {
	got := run(t, NewRevision(400), &store{perTick: time.Second}, 16*time.Minute)
	want := []compaction{{10 * time.Minute, 201}, {15 * time.Minute, 501}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestRevisionSparse: what is kept is a number of revisions, and not of their numbers.
func TestRevisionSparse(t *testing.T) {
	got := run(t, NewRevision(100), &store{perTick: time.Second, sparse: true}, 16*time.Minute)
	want := []compaction{{10 * time.Minute, 101}, {15 * time.Minute, 401}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRevisionIdle(t *testing.T) {
	got := run(t, NewRevision(100), &store{frozen: 150}, time.Hour)
	if diff := cmp.Diff([]compaction{{5 * time.Minute, 50}}, got); diff != "" {
		t.Error(diff)
	}
}
