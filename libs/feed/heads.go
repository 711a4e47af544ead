package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Times of Heads.
const (
	// headsPause is the shortest time between two reads of a shard whose bell rings. One read then finds what several
	// keyspaces have committed.
	headsPause = 10 * time.Millisecond
	// headsEvery is the shortest time between two reads that answer SharedLog.Head. Callers in between share one read.
	headsEvery = 500 * time.Millisecond
)

// ShardRows are the rows of one shard: the range of the heads of its keyspaces (mvcc.Beside.Head), and their Bell.
type ShardRows struct {
	Heads engine.Range
	Bell  []byte
}

// Heads reads the heads of many keyspaces for those who follow their logs. All keyspaces of a shard share one wait and
// one read, however many they are. Keyspaces that nobody follows cost nothing. The methods may be called from any
// goroutine.
type Heads struct {
	eng    engine.Store
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	shards []*headShard
}

// NewHeads returns the Heads of some shards. It reads nothing before somebody asks. The caller must Close it before
// eng.
func NewHeads(eng engine.Store, rows []ShardRows) *Heads {
	h := &Heads{eng: eng}
	h.ctx, h.stop = context.WithCancel(context.Background())
	for _, r := range rows {
		h.shards = append(h.shards, &headShard{h: h, rows: r, waiting: map[*SharedLog]headWait{}})
	}
	return h
}

// Close ends all waits and reads.
func (h *Heads) Close() {
	h.stop()
	h.wg.Wait()
}

// Log returns a log whose head is in a row of a shard. It is for a Follower without a bus.
func (h *Heads) Log(log Log, shard int, row []byte) *SharedLog {
	return &SharedLog{Log: log, shard: h.shards[shard], row: string(row)}
}

// SharedLog is the log of one of many keyspaces. It implements Log and is for one Follower.
type SharedLog struct {
	Log
	shard *headShard
	row   string

	// Under shard.mu.
	asked  bool // Head has been asked before
	nudged bool // since the last WaitHead
}

// Head implements Log. The first answer comes at once, others within headsEvery.
func (l *SharedLog) Head(ctx context.Context) (int64, error) {
	l.shard.mu.Lock()
	first := !l.asked
	l.asked = true
	l.shard.mu.Unlock()
	if first {
		return l.Log.Head(ctx)
	}
	heads, err := l.shard.look(ctx)
	if err != nil {
		return 0, err
	}
	if rev, ok := heads[l.row]; ok {
		return rev, nil
	}
	return l.Log.Head(ctx) // nothing has been committed since the keyspace was made
}

// WaitHead implements Log.
func (l *SharedLog) WaitHead(ctx context.Context, rev int64) error {
	done, ok := l.shard.wait(l, rev)
	if ok {
		return nil
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		l.shard.forget(l)
		return ctx.Err()
	}
}

// Nudge says that there may be something new.
func (l *SharedLog) Nudge() {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if w, ok := l.shard.waiting[l]; ok {
		delete(l.shard.waiting, l)
		w.done <- nil
		return
	}
	l.nudged = true
}

// headShard is one shard.
type headShard struct {
	h    *Heads
	rows ShardRows

	mu       sync.Mutex
	waiting  map[*SharedLog]headWait
	watching bool      // watch runs
	next     *headLook // not begun yet; nil: none
	began    time.Time // when the last look for Head did
}

// headWait is one WaitHead under way.
type headWait struct {
	rev  int64
	done chan error // capacity 1
}

// headLook is a read that several callers wait for.
type headLook struct {
	heads map[string]int64
	err   error
	done  chan struct{} // closed when the others are set
}

// wait registers that l waits for rev. ok says that it need not wait.
func (s *headShard) wait(l *SharedLog, rev int64) (done <-chan error, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.nudged {
		l.nudged = false
		return nil, true
	}
	w := headWait{rev, make(chan error, 1)}
	s.waiting[l] = w
	if !s.watching {
		s.watching = true
		s.h.wg.Go(s.watch)
	}
	return w.done, false
}

func (s *headShard) forget(l *SharedLog) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, l)
}

// watch ends the waits of a shard. When none is left, it returns at the next ring of the bell.
func (s *headShard) watch() {
	for {
		heads, bell, err := s.read(s.h.ctx)
		if s.answer(heads, err) {
			return
		}
		if err == nil {
			err = s.h.eng.WaitChange(s.h.ctx, s.rows.Bell, bell)
		}
		if err == nil {
			_ = retry.Sleep(s.h.ctx, headsPause)
		}
	}
}

// answer ends the waits whose head has come. If the rows could not be read, it ends all waits with the error; the
// callers have their own pauses. It returns true if none is left.
func (s *headShard) answer(heads map[string]int64, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, w := range s.waiting {
		if err != nil || heads[l.row] >= w.rev {
			delete(s.waiting, l)
			w.done <- err
		}
	}
	s.watching = len(s.waiting) > 0
	return !s.watching
}

// look returns the heads by their rows, as they were at a moment after the call. Callers within headsEvery share one
// read.
func (s *headShard) look(ctx context.Context) (map[string]int64, error) {
	s.mu.Lock()
	l := s.next
	if l == nil {
		l = &headLook{done: make(chan struct{})}
		s.next = l
		pause := headsEvery - time.Since(s.began)
		s.h.wg.Go(func() { s.lookAfter(pause, l) })
	}
	s.mu.Unlock()
	select {
	case <-l.done:
		return l.heads, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *headShard) lookAfter(pause time.Duration, l *headLook) {
	defer close(l.done)
	_ = retry.Sleep(s.h.ctx, pause)
	s.mu.Lock()
	s.next, s.began = nil, time.Now()
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.h.ctx, ReadTimeout)
	defer cancel()
	l.heads, _, l.err = s.read(ctx)
}

// read reads the heads and the bell in one state of the store.
func (s *headShard) read(ctx context.Context) (heads map[string]int64, bell []byte, err error) {
	snap, err := s.h.eng.Snapshot(ctx)
	if err != nil {
		return nil, nil, headsErr(err)
	}
	defer snap.Close()
	it := snap.Scan(ctx, s.rows.Heads)
	defer func() { err = errors.Join(err, headsErr(it.Close())) }()
	if bell, err = snap.Get(ctx, s.rows.Bell); err != nil {
		return nil, nil, headsErr(err)
	}
	bell = bytes.Clone(bell)
	heads = map[string]int64{}
	for it.Next() {
		if heads[string(it.Key())], err = mvcc.ParseBesideHead(it.Value()); err != nil {
			return nil, nil, fmt.Errorf("head of a keyspace in row %x: %w", it.Key(), err)
		}
	}
	return heads, bell, headsErr(it.Err())
}

// headsErr turns an error of the engine into one that Log's methods return.
func headsErr(err error) error {
	if err != nil && engine.ClassOf(err).Passes() {
		return errors.Join(mvcc.ErrUnavailable, err)
	}
	return err
}
