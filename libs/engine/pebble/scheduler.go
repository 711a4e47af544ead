package pebble

import (
	"strings"
	"sync"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
)

// grantEvery is how often the scheduler checks whether a waiting compaction may begin.
const grantEvery = 100 * time.Millisecond

// scheduler lets as many compactions run at a time as Pebble allows, like Pebble's own scheduler, but none during a
// pause.
//
// Pebble calls TrySchedule and UpdateGetAllowedWithoutPermission with its lock held, and takes that lock when the
// scheduler calls it. So these two methods never take granting, and mu is not held during any call that takes a lock.
type scheduler struct {
	paused func() bool
	db     pdb.DBForCompaction
	poked  chan struct{} // capacity 1
	stop   chan struct{}
	ended  chan struct{}

	granting sync.Mutex // one grant at a time

	mu      sync.Mutex
	running int
	closed  bool
}

var (
	_ pdb.CompactionScheduler   = (*scheduler)(nil)
	_ pdb.CompactionGrantHandle = (*scheduler)(nil)
)

func newScheduler(paused func() bool) *scheduler {
	return &scheduler{
		paused: paused,
		poked:  make(chan struct{}, 1),
		stop:   make(chan struct{}),
		ended:  make(chan struct{}),
	}
}

// Register implements pdb.CompactionScheduler.
func (s *scheduler) Register(_ int, db pdb.DBForCompaction) {
	s.db = db
	go s.run()
}

// Unregister implements pdb.CompactionScheduler.
func (s *scheduler) Unregister() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	<-s.ended
	s.granting.Lock()
	s.granting.Unlock() //nolint:staticcheck // it only waits for a grant under way
}

// run grants waiting compactions.
func (s *scheduler) run() {
	defer close(s.ended)
	tick := time.NewTicker(grantEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.poked:
		case <-s.stop:
			return
		}
		s.grant()
	}
}

// TrySchedule implements pdb.CompactionScheduler.
func (s *scheduler) TrySchedule() (bool, pdb.CompactionGrantHandle) {
	if !s.reserve() {
		return false, nil
	}
	return true, s
}

// reserve takes the place of one compaction, if one is free.
func (s *scheduler) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.paused() || s.running >= s.db.GetAllowedWithoutPermission() {
		return false
	}
	s.running++
	return true
}

func (s *scheduler) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
}

// grant starts waiting compactions, as many as may run.
func (s *scheduler) grant() {
	s.granting.Lock()
	defer s.granting.Unlock()
	for s.reserve() {
		if waiting, _ := s.db.GetWaitingCompaction(); !waiting || !s.schedule() {
			s.release()
			return
		}
	}
}

// schedule starts the waiting compaction, and reports whether there was one. When the context of a DB.Compact ends,
// Pebble forgets that call, but not what it has picked for it to wait, and panics when that is to begin. It has changed
// nothing by then and gives back its locks; the next attempt picks another one.
func (s *scheduler) schedule() (begun bool) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !strings.HasPrefix(err.Error(), "did not find manual compaction") {
				panic(p)
			}
		}
	}()
	return s.db.Schedule(s)
}

// UpdateGetAllowedWithoutPermission implements pdb.CompactionScheduler.
func (s *scheduler) UpdateGetAllowedWithoutPermission() {
	select {
	case s.poked <- struct{}{}:
	default:
	}
}

// Started implements pdb.CompactionGrantHandle.
func (s *scheduler) Started() {}

// MeasureCPU implements pdb.CompactionGrantHandle.
func (s *scheduler) MeasureCPU(pdb.CompactionGoroutineKind) {}

// CumulativeStats implements pdb.CompactionGrantHandle.
func (s *scheduler) CumulativeStats(pdb.CompactionGrantHandleStats) {}

// Done implements pdb.CompactionGrantHandle.
func (s *scheduler) Done() {
	s.release()
	s.grant()
}
