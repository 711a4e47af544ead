//go:build foundationdb

package foundationdb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Store is an engine.Store on a FoundationDB cluster.
type Store struct {
	o         Options
	db        fdb.Database
	limits    engine.Limits
	rootEnd   []byte // the end of the root's keys
	versions  versions
	newest    newest
	admission admission

	failed atomic.Pointer[error]
	ctx    context.Context // ended by Close
	stop   context.CancelFunc

	mu      sync.Mutex // guards closed against commits that begin
	closed  bool
	commits sync.WaitGroup
}

var _ engine.Store = (*Store)(nil)

// Open returns a store on the cluster of o.ClusterFile. It does not wait for the cluster: problems of the cluster show
// in the first call. Errors: a cluster file, an option or a libfdb_c that cannot be used.
func Open(o Options) (*Store, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.Root = append([]byte(nil), o.Root...)
	db, err := database(&o)
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, db: db, limits: o.limits(), rootEnd: []byte{0xff}}
	if len(o.Root) > 0 {
		if s.rootEnd, err = fdb.Strinc(o.Root); err != nil {
			return nil, fmt.Errorf("foundationdb: root: %w", err)
		}
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Limits implements engine.Store.
func (s *Store) Limits() engine.Limits { return s.limits }

// Close implements engine.Store. The client library's handle of the cluster stays.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.commits.Wait()
	s.stop()
	s.versions.wait()
	return nil
}

// startCommit records that a commit begins. It returns ErrClosed if none may.
func (s *Store) startCommit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return engine.ErrClosed
	}
	s.commits.Add(1)
	return nil
}

// fail ends the store for good.
func (s *Store) fail(err error) {
	if s.failed.CompareAndSwap(nil, &err) {
		s.o.Logger.Error("the store has failed", "err", err)
		s.o.OnFailure(err)
	}
}

// state returns the reason why the store does not serve; nil if it serves.
func (s *Store) state() error {
	if err := s.failed.Load(); err != nil {
		return fmt.Errorf("%w: %w", engine.ErrUnavailable, *err)
	}
	if s.ctx.Err() != nil {
		return engine.ErrClosed
	}
	return nil
}

// usable returns the reason why a call must not begin; nil if it may.
func (s *Store) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.state()
}

// newTransaction returns a handle without read-your-writes: reads go directly to the storage servers, and mutations
// into the commit.
func (s *Store) newTransaction() (fdb.Transaction, error) {
	tr, err := s.db.CreateTransaction()
	if err == nil {
		err = tr.Options().SetReadYourWritesDisable()
	}
	if err != nil {
		return tr, wrap(err)
	}
	return tr, nil
}

// key returns key under the root.
func (s *Store) key(key []byte) fdb.Key {
	if len(s.o.Root) == 0 {
		return key
	}
	return append(append(make([]byte, 0, len(s.o.Root)+len(key)), s.o.Root...), key...)
}

// bound returns a bound of a range under the root. No row has a key longer than the limit, so a longer bound is cut to
// one byte more than the limit: the rows on either side are the same.
func (s *Store) bound(key []byte) fdb.Key { return s.key(key[:min(len(key), s.limits.KeyBytes+1)]) }

// span returns a range under the root; ok is false if it is empty.
func (s *Store) span(begin, end []byte) (r fdb.KeyRange, ok bool) {
	if end != nil && string(begin) >= string(end) {
		return r, false
	}
	b, e := s.bound(begin), fdb.Key(s.rootEnd)
	if end != nil {
		e = s.bound(end)
		if string(e) > string(s.rootEnd) { // with an empty root only
			e = s.rootEnd
		}
	}
	return fdb.KeyRange{Begin: b, End: e}, string(b) < string(e)
}

// errEnded means that a Reader was used after its end.
var errEnded = errors.New("foundationdb: the reader or transaction has ended")

// guard can end a wait for futures early.
type guard struct {
	stop  func() bool
	timer *time.Timer
}

// watchOver calls cancel when ctx ends, or after limit if that is not 0. The caller must call release when its wait
// is over.
func watchOver(ctx context.Context, limit time.Duration, cancel func()) guard {
	var g guard
	if ctx.Done() != nil {
		g.stop = context.AfterFunc(ctx, cancel)
	}
	if limit > 0 {
		g.timer = time.AfterFunc(limit, cancel)
	}
	return g
}

func (g guard) release() {
	if g.stop != nil {
		g.stop()
	}
	if g.timer != nil {
		g.timer.Stop()
	}
}
