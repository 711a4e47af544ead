package pebble

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/engine"
)

// upkeep is the part of a Store that keeps it small, and available on a full disk.
type upkeep struct {
	passes chan struct{}                      // holds one while the store is compacted
	wanted atomic.Int32                       // calls of Defragment
	gentle atomic.Pointer[context.CancelFunc] // ends the pass of housekeep, if there is one
	hurry  chan struct{}                      // closed when Close stops waiting for memtables
	ended  chan struct{}                      // closed when Pebble has been closed, perhaps after Close has returned

	// readOnly says that Pebble was opened read-only, because the disk had no room for what a start writes. Every
	// transaction is refused until there is room and housekeep has reopened Pebble. Until then there is only one view.
	readOnly atomic.Bool
	needed   uint64        // bytes that must be free for that; set before readOnly
	swapping sync.RWMutex  // held for writing while db is exchanged
	swapped  chan struct{} // not nil while there is no view because db is exchanged; guarded by Store.mu
	nextSwap time.Time     // housekeep's

	stats atomic.Pointer[Stats] // the last answer

	usage struct {
		mu    sync.Mutex
		bytes uint64
		until time.Time
	}
}

const (
	// drainTimeout bounds the wait for readers before db is exchanged. New reads wait meanwhile.
	drainTimeout = 5 * time.Second
	drainPoll    = 5 * time.Millisecond
	// swapAgainAfter is the time between two attempts.
	swapAgainAfter = 10 * time.Second
	// undrainedPause is the time between two attempts if a reader has outlasted drainTimeout.
	undrainedPause = time.Minute
)

func (u *upkeep) init() {
	u.passes, u.hurry, u.ended = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
}

// openPebble opens Pebble, and records in which mode. Nothing waits for space meanwhile.
func (s *Store) openPebble(readOnly bool) error {
	s.space.opening.Store(true)
	defer s.space.opening.Store(false)
	o := s.pebbleOptions()
	o.ReadOnly = readOnly
	err := guard(func() (err error) {
		s.db, err = pdb.Open(s.space.dir, o)
		return err
	})
	if err == nil {
		s.needed = min(s.logBytes(), s.db.Metrics().MemTable.Size) + startSlack
		s.readOnly.Store(readOnly)
	}
	return err
}

// openForWriting records in the ledger that the store is opened, and opens Pebble. Nothing waits for space meanwhile.
func (s *Store) openForWriting() error {
	s.space.opening.Store(true)
	defer s.space.opening.Store(false)
	if err := s.ledger.begin(); err != nil {
		return err
	}
	return s.openPebble(false)
}

// openTight opens Pebble read-only if there is not enough space for a start, which writes out the content of the logs
// and waits forever if it cannot. It reports whether the store is open. The content of the logs is known only when they
// have been read. If there is room for all logs, that is skipped.
func (s *Store) openTight() bool {
	all := s.logBytes() + startSlack
	if s.space.room(all) {
		return false
	}
	if s.openPebble(true) != nil {
		return false // there is no store yet, or it is damaged: opening it for writing says so
	}
	if !s.space.room(s.needed) {
		s.sayReadOnly()
		return true
	}
	s.readOnly.Store(false)
	_ = guard(s.db.Close)
	return false
}

// logBytes returns the length of all logs.
func (s *Store) logBytes() (sum uint64) {
	names, err := s.opts.FS.List(s.space.dir)
	if err != nil {
		return 0
	}
	for _, name := range names {
		if _, ok := logNumber(name); !ok {
			continue
		}
		if i, err := s.opts.FS.Stat(s.opts.FS.PathJoin(s.space.dir, name)); err == nil {
			sum += uint64(i.Size())
		}
	}
	return sum
}

func (s *Store) sayReadOnly() {
	s.log.Error("the disk is full: reads are served, writes wait for space", "needed_bytes", s.needed)
}

// errReadOnly is the error with which a read-only store refuses a transaction.
func (s *Store) errReadOnly() error {
	return fmt.Errorf(
		"%w: the disk is full: the store is read-only until %d bytes are free", engine.ErrNoSpace, s.needed,
	)
}

// awaitSwap waits while there is no view because Pebble is being reopened. It returns ErrClosed if there is another
// reason.
func (s *Store) awaitSwap(ctx context.Context) error {
	s.mu.Lock()
	swapped, there := s.swapped, s.applied != nil
	s.mu.Unlock()
	if swapped == nil {
		if there {
			return nil
		}
		if err := s.err(); err != nil {
			return err
		}
		return engine.ErrClosed
	}
	select {
	case <-swapped:
		return s.usable(ctx)
	case <-s.failed:
		return s.err()
	case <-s.stop:
		return engine.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tryPromote opens Pebble for writing if there is room for it now. Only housekeep calls it.
func (s *Store) tryPromote() {
	u, err := s.space.fs.GetDiskUsage(s.space.dir)
	if err == nil && u.AvailBytes < s.needed || time.Now().Before(s.nextSwap) {
		return // if the free space is unknown, an attempt finds out
	}
	s.nextSwap = time.Now().Add(swapAgainAfter)
	s.mu.Lock()
	was, first := s.applied, s.applied.commit
	s.swapped = make(chan struct{})
	s.applied = nil
	s.durable.Store(nil)
	s.mu.Unlock()
	was.unref()
	was.unref()
	defer func() {
		s.mu.Lock()
		close(s.swapped)
		s.swapped = nil
		s.mu.Unlock()
	}()
	if s.drained(was) {
		s.exchange()
	} else { // every attempt makes new readers wait
		s.nextSwap = time.Now().Add(undrainedPause)
		s.log.Warn(
			"the disk has room again, but a reader keeps the store from being opened for writing", "retry",
			undrainedPause.String(),
		)
	}
	if s.failure.Load() != nil {
		return
	}
	v := newView(s, s.db.NewSnapshot(), first)
	first.view = v
	v.refs.Add(1)
	s.mu.Lock()
	s.applied = v
	s.durable.Store(v)
	s.mu.Unlock()
	if !s.readOnly.Load() {
		s.log.Info("the disk has room again: the store is open for writing")
		s.space.look()
	}
}

// drained waits until no reader uses v and it is closed, or until drainTimeout.
func (s *Store) drained(v *view) bool {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for end := time.Now().Add(drainTimeout); !v.closed.Load(); {
		select {
		case <-tick.C:
		case <-s.stop:
			return false
		}
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// exchange closes the read-only Pebble and opens it for writing, or read-only again if that fails.
func (s *Store) exchange() {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	s.closingDB.Store(true)
	err := guard(s.db.Close)
	s.closingDB.Store(false)
	if err != nil {
		_ = s.fail(err)
		return
	}
	if err = s.openForWriting(); err == nil {
		return
	}
	if err := s.openPebble(true); err != nil {
		_ = s.fail(err)
		return
	}
	s.log.Error(
		"the store could not be opened for writing, will be tried again", "error", err.Error(), "needed_bytes",
		s.needed,
	)
}
