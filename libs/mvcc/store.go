package mvcc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Store is one keyspace on an engine. All methods may be called from any goroutine until Close.
type Store struct {
	eng    engine.Store
	recent engine.RecentBeginner    // eng, if it is one
	older  engine.RecentSnapshotter // eng, if it is one
	o      Options
	limits engine.Limits
	rows   rows
	room   room
	meta   Meta
	refs   revlog.RowRevs
	codec  revlog.Codec
	writer [16]byte // identifies this Store in commit rows (I5)

	headRow, compactRow, sizeRow, bucketsRow, authRow []byte

	head       atomic.Pointer[headAt]    // on a dense engine
	state      atomic.Pointer[stateRead] // of the newest state that anybody has read; on the others
	told       atomic.Int64              // see Told
	recentHead recentHead
	compact    atomic.Int64
	usage      Usage
	counts     countMemo
	buckets    atomic.Pointer[buckets] // from the newest state that this Store has seen
	size       rangeSize

	features atomic.Uint64 // Features, as last seen
	versions versions
	follow   following
	auth     authSeen
	live     liveBytes
	keys     atomic.Int64 // keys after all committed groups; only if Options.KeysMax is set
	keysSeen atomic.Pointer[keysSeen]
	crowd    sync.Mutex // held by a lane from the start of a group to its end, see lane.exact

	noSpace atomic.Bool
	queue   queue
	lanes   []*lane
	joint   jointState // Options.Joint's
	removal removal
	kept    hashesKept
	keeper  keeper

	wholeWait time.Duration // how long reads wait for a revision that is written in parts

	closing context.Context // ends when Close begins
	stop    context.CancelFunc
	work    context.Context // the lanes' context; ends closeGrace later
	abandon context.CancelFunc
	wg      sync.WaitGroup
}

// headAt caches the head row of one engine state.
type headAt struct {
	version uint64
	rev     int64
}

// Usage counts what a Store has done, for metrics. Counters only grow.
type Usage struct {
	Ranges, Puts, Deletes, Txns atomic.Int64 // requests, and operations of transactions
	Groups, Conflicts, Retries  atomic.Int64 // group commits
	Recent, Outdated            atomic.Int64 // groups begun on a recent state, and those evaluated again
	Events                      atomic.Int64
	CompactedEntries            atomic.Int64
	Damaged                     atomic.Int64 // how often damaged data was found
}

// Open opens the keyspace at o.Prefix of eng, and creates it if it does not exist. The caller keeps the ownership of
// eng. The engine may hold other keyspaces, as long as neither prefix begins with the other one and a table's byte.
// Each keyspace has its own stamp domain, and so its own revisions. Until something is written, an open Store has no
// goroutine, except that on an engine with other writers one waits for their compactions.
func Open(ctx context.Context, eng engine.Store, o Options) (*Store, error) {
	limits := eng.Limits()
	o.ensureDefaults(limits)
	if err := o.validate(limits); err != nil {
		return nil, err
	}
	if _, ok := eng.(engine.Domains); !ok && limits.Dense && len(o.Prefix) > 0 {
		return nil, errors.New(
			"mvcc: the engine has one counter for all keyspaces, so the revisions of this one would have gaps")
	}
	eng = engine.Domain(eng, o.Prefix)
	s := &Store{eng: eng, o: o, limits: limits, rows: rows{prefix: o.Prefix}, wholeWait: wholeWait}
	s.room = s.rows.roomOf(limits)
	s.kept.turn = make(chan struct{}, 1)
	s.kept.turn <- struct{}{}
	s.recent, _ = eng.(engine.RecentBeginner)
	s.older, _ = eng.(engine.RecentSnapshotter)
	var err error
	if s.meta, err = openMeta(ctx, eng, s.rows, &o); err != nil {
		return nil, err
	}
	if !limits.Dense {
		s.o.GroupMax = min(s.o.GroupMax, s.meta.Space.GroupMax())
	}
	s.refs = revlog.RowRevs{Space: s.meta.Space}
	s.codec = revlog.Codec{RowRevs: s.refs}
	s.headRow, s.compactRow, s.sizeRow = s.rows.head(), s.rows.meta(metaCompact), s.rows.meta(metaLive)
	s.bucketsRow, s.authRow = s.rows.meta(metaBuckets), s.rows.meta(metaAuth)
	s.sawFeatures(s.meta.Features)
	s.follow.init(s.meta.Features)
	rand.Read(s.writer[:])
	s.recentHead.start = time.Now()
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	if err := s.clearCommits(ctx); err != nil {
		return nil, err
	}
	if err := s.activateAtOpen(ctx, o.Activate); err != nil {
		return nil, err
	}
	if err := s.loadLive(ctx); err != nil {
		return nil, err
	}
	if err := s.loadKeys(ctx); err != nil {
		return nil, err
	}
	s.start()
	return s, nil
}

func (s *Store) load(ctx context.Context) error {
	snap, err := s.eng.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snap.Close()
	if _, err = s.headOf(ctx, snap); err != nil && !errors.Is(err, ErrUnfinished) {
		return err
	}
	c, err := s.compactOf(ctx, snap)
	if err != nil {
		return err
	}
	s.compact.Store(c)
	if s.Features().Has(FeatureAuth) {
		if _, err := s.authOf(ctx, snap); err != nil {
			return err
		}
	}
	s.auth.fed = s.AuthNumber()
	if _, err := s.readIndex(ctx, snap); err != nil { // the first group then has the buckets in memory
		return err
	}
	return s.loadRemoval(ctx, snap)
}

func (s *Store) start() {
	ctx, stop := context.WithCancel(context.Background())
	s.closing, s.stop = ctx, stop
	s.work, s.abandon = context.WithCancel(context.Background())
	s.queue.init(s.o.QueueMax, s.o.Lanes)
	for i := range s.o.Lanes {
		s.lanes = append(s.lanes, &lane{s: s, id: i, row: s.rows.commit(s.writer, i)})
	}
	s.queue.serve = func() {
		if !s.o.Joint.take(s) {
			s.wg.Go(s.serve)
		}
	}
	if j := s.o.Joint; j != nil {
		j.opened(s)
		context.AfterFunc(s.work, func() { j.abandon(s) })
	}
	s.removal.closed = ctx.Done()
	if !s.o.NoRemoval {
		s.removal.start(func() {
			if ctx.Err() == nil {
				s.wg.Go(func() { s.removeCompacted(ctx, 0, true) })
			}
		})
	}
	if !s.o.NoRemoval || s.o.Beside != nil {
		s.keeper.start(s.o.CountKeys/bucketsLook, func() {
			if ctx.Err() == nil {
				s.wg.Go(func() { s.keepOwnBuckets(ctx) })
			}
		})
		s.wakeKeeper()
	}
	if !s.limits.Dense {
		s.wg.Go(func() { s.followCompaction(ctx) })
		if s.follow.is.Load() {
			s.wg.Go(func() { s.awaitFollowEnd(ctx) })
		}
	}
}

// wakeKeeper starts the work on the count index that is still to be done.
func (s *Store) wakeKeeper() {
	if b := s.buckets.Load(); s.Features().Has(FeatureCounts) && (b == nil || !b.plain) {
		s.keeper.wake()
	}
}

// idleSweeps is how many sweeps in a row must find nothing before the goroutines that serve writes end: five seconds.
const idleSweeps = 20

// serve runs the lanes and the sweeper until nothing has been written for a while, so little that it can be committed
// with other Stores' writes, or the Store is closed. The next write calls it again.
func (s *Store) serve() {
	for {
		var lanes sync.WaitGroup
		for _, l := range s.lanes {
			lanes.Go(l.run)
		}
		ended := make(chan struct{})
		go func() {
			lanes.Wait()
			close(ended)
		}()
		s.sweep(ended)
		if s.queue.rest() {
			s.queue.sweep() // forgets what has been answered
			return
		}
	}
}

// sweep ends waits that take too long, until the lanes have ended. It lets them end when the Store is closed, when
// idleSweeps sweeps in a row have found nothing waiting, or when calmSweeps have found so little that a Joint may serve
// the Store.
func (s *Store) sweep(ended <-chan struct{}) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	closing := s.closing.Done()
	for idle, calm := 0, 0; ; {
		select {
		case <-t.C:
			idle++
			if s.queue.sweep(); s.queue.busy() {
				idle = 0
			}
			if calm++; !s.o.Joint.several() || !s.queue.calm() {
				calm = 0
			}
			if idle >= idleSweeps || calm >= calmSweeps {
				s.queue.retire()
			}
		case <-closing:
			closing = nil
			s.queue.retire()
		case <-ended:
			return
		}
	}
}

// closeGrace is how long Close waits for writes under way. closeGiveUp is how much longer it waits for an engine that
// does not even report that they have failed. Without these, an engine that cannot be reached or has no space would let
// Close wait forever.
const (
	closeGrace  = 5 * time.Second
	closeGiveUp = 500 * time.Millisecond
)

// Close refuses new writes, waits for those under way and stops the Store's goroutines. Writes that the engine has not
// answered after Options.CloseGrace fail with ErrUnavailable: their outcome is unknown. Reads must have ended before.
// It returns within CloseGrace and half a second. An error means that the engine has kept a goroutine for longer than
// that.
func (s *Store) Close() error {
	s.queue.close()
	s.recentHead.close()
	s.stop()
	defer time.AfterFunc(s.o.CloseGrace, s.abandon).Stop()
	ended := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(ended)
	}()
	t := time.NewTimer(s.o.CloseGrace + closeGiveUp)
	defer t.Stop()
	if s.o.Joint != nil {
		s.o.Joint.left(s)
	}
	select {
	case <-ended:
		s.abandon()
		s.tidy()
		return nil
	case <-t.C:
		return fmt.Errorf("%w: a write has not ended", ErrUnavailable)
	}
}

// Defragmenter is implemented by an engine that can compact its files, besides engine.Store.
type Defragmenter interface {
	// Defragment frees the disk space of what has been deleted or replaced. It returns when that is done or ctx has
	// ended. Reads and writes continue meanwhile. Errors: engine.ErrNoSpace, engine.ErrUnavailable, engine.ErrClosed,
	// the context's.
	Defragment(ctx context.Context) error
}

// Defragment makes the engine return the space that compactions have freed to the disk, and waits until that is done.
// It returns at once on an engine that does this by itself. Errors: ErrNoSpace, ErrUnavailable, ErrClosed, the
// context's.
func (s *Store) Defragment(ctx context.Context) error {
	if d, ok := s.eng.(Defragmenter); ok {
		return storeErr(d.Defragment(ctx))
	}
	return nil
}

// Meta returns what was fixed when the keyspace was created.
func (s *Store) Meta() Meta { return s.meta }

// Usage returns the Store's counters.
func (s *Store) Usage() *Usage { return &s.usage }

// CompactRevision returns the compact revision, or -1 if the keyspace has never been compacted. It may be called at
// any time.
func (s *Store) CompactRevision() int64 { return s.compact.Load() }

// Head returns the revision of the newest durable state: at least every revision acknowledged to anyone before the call
// (a linearizable read). Errors: ErrUnavailable or the context's.
func (s *Store) Head(ctx context.Context) (rev int64, err error) {
	err = s.view(ctx, func(snap engine.Snapshot) error {
		if s.limits.Dense {
			rev, err = s.headOf(ctx, snap)
			return err
		}
		// Other processes compact too. A caller that asks for the head will next ask what may be read below it. It may
		// need the head for a watch, which must be allowed by the users and roles of that state.
		state := s.readState(ctx, snap)
		c, err := s.compactOf(ctx, snap)
		var headErr error
		rev, headErr = state.learn(ctx)
		if err = errors.Join(err, headErr); err == nil {
			s.compactedTo(c)
		}
		return err
	})
	return rev, err
}

// view runs f with a snapshot, and again with a fresh one when the first has grown too old, or shows a revision that is
// being written in parts. f must be able to start over or to continue where it was.
func (s *Store) view(ctx context.Context, f func(engine.Snapshot) error) error {
	var deadline time.Time
	for {
		err := s.viewAny(ctx, f)
		if !errors.Is(err, ErrUnfinished) || !s.awaitWhole(ctx, &deadline) {
			return err
		}
	}
}

// viewAny is view that does not wait where a revision is being written in parts.
func (s *Store) viewAny(ctx context.Context, f func(engine.Snapshot) error) error {
	for stale := 0; ; stale++ {
		snap, err := s.eng.Snapshot(ctx)
		if err != nil {
			return storeErr(err)
		}
		err = f(snap)
		snap.Close()
		if !errors.Is(err, engine.ErrTooOld) || stale == staleScansMax {
			return s.noted(storeErr(err))
		}
	}
}

// headOf returns the head of a snapshot. It reads the row once per state.
func (s *Store) headOf(ctx context.Context, snap engine.Snapshot) (int64, error) {
	if !s.limits.Dense {
		state := s.readState(ctx, snap)
		rev, _, err := state.finish(ctx)
		return rev, err
	}
	old := s.head.Load()
	if old != nil && old.version == snap.Version() {
		return old.rev, nil
	}
	rev, err := s.readHead(ctx, snap)
	if err == nil && (old == nil || old.version < snap.Version()) {
		s.head.CompareAndSwap(old, &headAt{version: snap.Version(), rev: rev})
	}
	return rev, err
}

func (s *Store) readHead(ctx context.Context, r engine.Reader) (int64, error) {
	rev, _, err := s.parseHead(r, s.scanHead(ctx, r))
	return rev, err
}

// scanHead starts to read the head row. It reads without a conflict: every commit writes the row, so each transaction
// would conflict with all others. On an engine behind a network the request has been sent when scanHead returns.
func (s *Store) scanHead(ctx context.Context, r engine.Reader) engine.Iterator {
	return r.Scan(
		ctx,
		engine.Range{
			Begin:      s.headRow,
			End:        append(s.headRow[:len(s.headRow):len(s.headRow)], 0),
			Limit:      1,
			NoConflict: true,
		},
	)
}

// parseHead finishes the read that scanHead has started. The features are those of the same state.
func (s *Store) parseHead(r engine.Reader, it engine.Iterator) (int64, Features, error) {
	defer it.Close()
	if !it.Next() {
		if err := it.Err(); err != nil {
			return 0, 0, storeErr(err)
		}
		return 0, 0, ErrCorrupt
	}
	st, features, err := parseHeadRow(it.Value())
	if err != nil {
		return 0, 0, err
	}
	s.sawFeatures(features)
	if !features.Has(FeatureFollows) && s.follow.is.Load() { // another process has ended it
		s.follow.end()
	}
	if features.Has(FeatureParts) {
		return 0, 0, ErrUnfinished
	}
	rev := s.meta.Space.Of(st)
	if s.limits.Versionstamps && r.Version() < st.Version {
		return 0, 0, fmt.Errorf(
			"%w: it reads at version %d, but the keyspace's last commit has version %d; "+
				"advance it with fdbcli: advanceversion %d",
			ErrSetBack, r.Version(), st.Version, st.Version+1,
		)
	}
	s.Told(rev)
	s.recentHead.knew(rev)
	return rev, features, nil
}

func (s *Store) compactOf(ctx context.Context, r engine.Reader) (int64, error) {
	b, err := r.Get(ctx, s.compactRow)
	if err != nil {
		return 0, storeErr(err)
	}
	return parseCompact(b)
}

// parseCompact reads the row of a compact revision. The row does not exist before the first compaction.
func parseCompact(row []byte) (int64, error) {
	if row == nil {
		return neverCompacted, nil
	}
	return parseRev(row)
}

// storeErr turns an engine's error into one of this package. The cause stays in the chain.
func storeErr(err error) error {
	switch class := engine.ClassOf(err); {
	case err == nil:
		return nil
	case class == engine.TooLarge:
		return errors.Join(ErrTooLarge, err)
	case class == engine.NoSpace:
		return errors.Join(ErrNoSpace, err)
	case class == engine.Closed:
		return errors.Join(ErrClosed, err)
	case class.Passes():
		return errors.Join(ErrUnavailable, err)
	case class == engine.Damaged, errors.Is(err, revlog.ErrCorrupt):
		return errors.Join(ErrCorrupt, err)
	}
	return err
}
