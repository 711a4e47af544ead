package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
)

// storeFormat is the newest layout of rows that this package reads and writes. A store's own is in formatRow.
const (
	storeFormat = formatOfValues
	// formatPlain is the layout of a store without a value log.
	formatPlain = 1
	// formatOfValues is the layout of a store with one: rows may refer to value files.
	formatOfValues = 2
)

// Rows of the engine itself.
var (
	formatRow  = []byte{metaPrefix, 'f'} // the layout, one byte
	versionRow = []byte{metaPrefix, 'v'} // the last version given out, 8 bytes big-endian; other domains: domainRow
)

// Store is an engine.Store in one directory.
type Store struct {
	db     *pdb.DB
	opts   Options
	limits engine.Limits
	log    *slog.Logger
	space  *space
	ledger *ledger
	values valueLog
	files  vfs.FS        // changes Pebble's files; watches the space and keeps the ledger
	lock   io.Closer     // on the directory
	shape  atomic.Uint64 // counts flushes and compactions

	wmu     sync.Mutex // one commit at a time; guards the next five
	version uint64     // the last version given out, in the domain of the empty prefix
	domains counters   // the same for other domains
	seq     uint64     // the last commit
	jumps   *rand.Rand

	mu       sync.Mutex
	applied  *view     // the newest state
	queue    []*commit // applied, not durable, in order
	open     txnList
	window   window
	draining bool // Close waits for background

	durable atomic.Pointer[view] // the newest durable state; swapped under mu
	watches watches
	damage  damage
	blocks  blockCache
	stall   *stall

	applies     chan *pdb.Batch // for the applier
	applyResult chan applied    // its results

	opened     atomic.Bool // Open has succeeded
	closingDB  atomic.Bool // Pebble is being closed, and returns errors
	failure    atomic.Pointer[error]
	failed     chan struct{} // closed after failure is set
	closed     atomic.Bool
	noRoom     chan struct{} // closed when a table finds no space while the store is being closed
	noRoomOnce sync.Once
	stop       chan struct{}
	background sync.WaitGroup

	upkeep
}

var (
	_ engine.Store    = (*Store)(nil)
	_ engine.Frugal   = (*Store)(nil)
	_ engine.Snapshot = (*snapshot)(nil)
	_ engine.Txn      = (*txn)(nil)
	_ engine.Pending  = (*pending)(nil)
	_ engine.Iterator = (*iterator)(nil)
)

// Open opens the store in dir. It creates the directory and the store if they do not exist. The error says in one line
// what is wrong: ErrInUse, ErrCorrupt, ErrNewerFormat, or the file system's error.
func Open(dir string, o Options) (*Store, error) {
	o.EnsureDefaults()
	o.FS = privateFS{o.FS}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Store{
		opts:   o,
		log:    o.Logger,
		limits: limitsOf(&o),
		stop:   make(chan struct{}),
		failed: make(chan struct{}),
		noRoom: make(chan struct{}),
		stall:  newStall(),
	}
	s.applies, s.applyResult = make(chan *pdb.Batch), make(chan applied, 1)
	s.jumps = rand.New(rand.NewPCG(o.Seed, o.Seed))
	s.window.commitsMax, s.window.bytesMax = o.WindowCommits, o.WindowBytes
	s.watches.init()
	s.upkeep.init()
	if err := o.FS.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("data directory %s cannot be created: %w", dir, cause(err))
	}
	var err error
	if s.lock, err = lockDir(o.FS, dir); err != nil {
		return nil, err
	}
	s.space = newSpace(s, dir)
	s.values.init(s)
	if err := s.openDB(dir); err != nil {
		s.blocks.set(nil)
		_ = s.lock.Close()
		return nil, err
	}
	if err := guard(s.load); err != nil {
		_ = guard(s.db.Close)
		err = s.ledger.blame(err)
		s.release(false)
		return nil, describeOpen(dir, err)
	}
	first := &commit{s: s, last: s.version}
	first.durable.Store(true)
	s.applied = newView(s, s.db.NewSnapshot(), first)
	first.view = s.applied
	s.applied.refs.Add(1)
	s.durable.Store(s.applied)
	s.opened.Store(true)
	s.space.look()
	go s.applier()
	s.background.Go(s.housekeep)
	if s.values.on() {
		s.background.Go(s.values.collector)
	}
	s.background.Go(s.watchLevels)
	return s, nil
}

func limitsOf(o *Options) engine.Limits {
	l := engine.Limits{TxnBytes: txnBytesMax, MaxStamps: stampsMaxDense, Dense: true, Pipelined: !o.NotPipelined}
	if o.FDBLimits {
		l.KeyBytes, l.ValueBytes, l.TxnBytes = txnsize.KeyBytesMax, txnsize.ValueBytesMax, txnsize.TxnBytesMax
		l.Structures, l.StampBytes = true, txnsize.StampBytes
	}
	if o.Sparse {
		l.Dense, l.MaxStamps = false, stampsMaxSparse
	}
	return l
}

// load checks the format, or writes it in a new store, and restores the last version.
func (s *Store) load() error {
	format, err := s.meta(formatRow)
	switch {
	case err != nil:
		return err
	case format == nil:
		return s.create()
	case len(format) != 1:
		return fmt.Errorf("%w: format row of %d bytes", ErrCorrupt, len(format))
	case format[0] > storeFormat:
		return fmt.Errorf("%w: format %d, this version knows %d", ErrNewerFormat, format[0], storeFormat)
	}
	if format[0], err = s.upgrade(format[0]); err != nil {
		return err
	}
	if err := s.values.load(format[0]); err != nil {
		return err
	}
	v, err := s.meta(versionRow)
	if err != nil || v == nil {
		return err
	}
	if len(v) != 8 {
		return fmt.Errorf("%w: version row of %d bytes", ErrCorrupt, len(v))
	}
	s.version = binary.BigEndian.Uint64(v)
	return nil
}

// create writes the format into a new store. If there are rows but no format, rows have been lost. On a full disk it
// fails: a new store has nothing to serve while it waits.
func (s *Store) create() error {
	s.space.opening.Store(true)
	defer s.space.opening.Store(false)
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	filled := it.First()
	if err := it.Close(); err != nil {
		return err
	}
	if filled {
		return fmt.Errorf("%w: there are rows, but the row with their format is missing", ErrCorrupt)
	}
	b := s.db.NewBatch()
	format := byte(formatPlain)
	_ = b.Set(formatRow, []byte{format}, nil) // fails on indexed batches only
	if s.ledger.ofValues() {
		format = formatOfValues
		activateValues(b)
	}
	s.sign(b, 0)
	if err := b.Commit(pdb.Sync); err != nil {
		return err
	}
	if format == formatOfValues {
		s.tellBegun()
	}
	return s.values.load(format)
}

// upgrade gives a store a value log if its ledger is for one, and returns the store's format.
func (s *Store) upgrade(format byte) (byte, error) {
	if format == formatOfValues || s.ledger.unwritten || !s.ledger.ofValues() || s.readOnly.Load() {
		return format, nil
	}
	s.space.opening.Store(true) // a full disk does not keep it waiting
	defer s.space.opening.Store(false)
	b := s.db.NewBatch()
	activateValues(b)
	s.sign(b, 0)
	if err := b.Commit(pdb.Sync); err != nil {
		return format, err
	}
	s.tellBegun()
	return formatOfValues, nil
}

// tellBegun logs that the store has value files from now on.
func (s *Store) tellBegun() {
	s.log.Info(
		"the store has value files from now on: releases that know none refuse the directory", "path", s.space.dir,
		"values-from-bytes", s.opts.ValueBytes,
	)
}

// release closes the ledger and unlocks the directory. stopped says that Pebble has been closed properly.
func (s *Store) release(stopped bool) {
	if err := s.ledger.close(stopped); err != nil {
		s.log.Warn(
			"the ledger could not record that the store was stopped: the next start will treat it as killed", "error",
			err.Error(),
		)
	}
	s.blocks.set(nil)
	_ = s.lock.Close()
}

// meta reads one of the engine's own rows; nil if it does not exist.
func (s *Store) meta(row []byte) ([]byte, error) {
	v, closer, err := s.db.Get(row)
	if errors.Is(err, pdb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := append([]byte{}, v...)
	return out, closer.Close()
}

// Limits implements engine.Store.
func (s *Store) Limits() engine.Limits { return s.limits }

// usable returns why the store cannot be used now.
func (s *Store) usable(ctx context.Context) error {
	if err := s.err(); err != nil {
		return err
	}
	return ctx.Err()
}

// Snapshot implements engine.Store.
func (s *Store) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	v := s.durableView()
	for v == nil {
		if err := s.awaitSwap(ctx); err != nil {
			return nil, err
		}
		v = s.durableView()
	}
	r := &snapshot{}
	r.init(v)
	return r, nil
}

// durableView returns the newest durable view with a reference for the caller; nil if the store is closed.
func (s *Store) durableView() *view {
	for {
		v := s.durable.Load()
		if v == nil || v.tryRef() {
			return v
		}
		// The view has been replaced meanwhile: the next load finds the new one.
	}
}

// Begin implements engine.Store.
func (s *Store) Begin(ctx context.Context) (engine.Txn, error) {
	t, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (s *Store) begin(ctx context.Context) (*txn, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	t := &txn{}
	s.mu.Lock()
	v := s.newest()
	for v == nil {
		s.mu.Unlock()
		if err := s.awaitSwap(ctx); err != nil {
			return nil, err
		}
		s.mu.Lock()
		v = s.newest()
	}
	v.refs.Add(1)
	t.init(v)
	s.enter(t)
	s.mu.Unlock()
	return t, nil
}

// newest returns the view at which transactions begin; nil if there is none now. s.mu is held.
func (s *Store) newest() *view {
	if !s.limits.Pipelined {
		return s.durable.Load()
	}
	return s.applied
}

// Close implements engine.Store. It writes out the memtables, so that the next Open has no log to replay, unless that
// takes longer than flushTimeout. It does not wait for space. It returns within closeTimeout, with an error if the disk
// has not answered by then. Commits that have not been acknowledged may then be lost.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return engine.ErrClosed
	}
	s.space.close()
	close(s.stop)
	s.watches.wakeAll()
	done := make(chan error, 1)
	go func() {
		done <- s.shutdown()
		close(s.ended)
	}()
	patience := max(closeTimeout, s.opts.CloseWithin)
	if s.space.blocked.Load() > 0 {
		patience = blockedCloseTimeout
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return fmt.Errorf(
			"%w: the disk did not answer within %v; the next start will replay the log", engine.ErrUnavailable,
			patience,
		)
	}
}

func (s *Store) shutdown() error {
	s.wmu.Lock() // waits for a commit that is being applied
	defer s.wmu.Unlock()
	close(s.applies)
	if a := s.lastApplied(); a != nil && s.failure.Load() == nil {
		_ = a.commit.wait(context.Background())
	}
	if s.failure.Load() != nil {
		return s.closeFailed()
	}
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.background.Wait()
	select {
	case s.values.collecting <- struct{}{}: // nobody reads at a view of the collector's
	case <-s.failed:
		return s.closeFailed()
	}
	s.mu.Lock()
	applied := s.applied
	durable := s.durable.Swap(nil)
	s.applied = nil
	s.mu.Unlock()
	if applied != nil {
		applied.unref()
		durable.unref()
	}
	if err := s.flush(); err != nil {
		return s.closeFailed()
	}
	return s.closeDB()
}

func (s *Store) lastApplied() *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied
}

// flush writes out the memtables. It gives up if there is no space for them or it takes too long: the log has their
// content.
func (s *Store) flush() error {
	defer close(s.hurry)
	if s.readOnly.Load() {
		return nil
	}
	flushed, err := s.asyncFlush()
	if err != nil {
		return s.fail(err)
	}
	t := time.NewTimer(flushTimeout)
	defer t.Stop()
	select {
	case <-flushed:
		return nil
	case <-s.noRoom:
		s.log.Warn("the disk is full: the next start will replay the log")
		return nil
	case <-t.C:
		s.log.Warn("the disk is slow: the next start will replay the log")
		return nil
	case <-s.failed:
		return s.err()
	}
}

// asyncFlush starts to write out the memtables.
func (s *Store) asyncFlush() (flushed <-chan struct{}, err error) {
	begun := make(chan (<-chan struct{}), 1)
	err = s.run(func() error {
		c, err := s.db.AsyncFlush()
		begun <- c
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-begun, nil
}

// closeDB closes Pebble. A failed Pebble may hold its own locks forever: Close does not wait for it.
func (s *Store) closeDB() error {
	s.closingDB.Store(true)
	done := make(chan error, 1)
	go func() { done <- guard(s.db.Close) }()
	select {
	case err := <-done:
		err = errors.Join(err, s.values.close())
		s.release(err == nil && s.failure.Load() == nil && !s.readOnly.Load())
		return err
	case <-s.failed:
	}
	select {
	case <-done:
	case <-time.After(failedCloseTimeout):
	}
	s.release(false)
	return s.err()
}
