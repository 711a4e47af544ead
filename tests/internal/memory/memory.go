package memory

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/google/btree"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
)

const (
	// historyMax is how many commits the store keeps for the check of conflicts.
	historyMax = 20_000
	// stampsMax is how many stamps one commit may use.
	stampsMax = 1 << 16
	degree    = 32
	// versionsPerSecond is FoundationDB's.
	versionsPerSecond = 1_000_000
)

var limits = engine.Limits{
	KeyBytes: txnsize.KeyBytesMax, ValueBytes: txnsize.ValueBytesMax, TxnBytes: txnsize.TxnBytesMax,
	Structures: true, StampBytes: txnsize.StampBytes, MaxStamps: stampsMax, Versionstamps: true,
}

// row is never changed once it is in a tree.
type row struct{ key, value []byte }

func less(a, b row) bool { return bytes.Compare(a.key, b.key) < 0 }

// Store is an engine.Store in memory. Make one with New.
type Store struct {
	mu      sync.Mutex
	closed  bool
	began   time.Time
	ahead   uint64             // by which versions have been advanced
	life    int                // how often the store has been set back
	version uint64             // the last one given to a reader or to a commit
	rows    *btree.BTreeG[row] // the newest state, which commits change
	view    *btree.BTreeG[row] // the newest state as readers get it; nil: to be made
	commits []commit           // oldest first
	floor   uint64             // the version of the newest commit that is not in commits
	waits   map[*wait]struct{}
}

// commit is what one commit wrote.
type commit struct {
	version uint64
	keys    map[string]struct{}
	spans   []span
}

// span is the keys k with begin <= k < end. A nil end stands for the end of the store.
type span struct{ begin, end []byte }

func (s span) has(key []byte) bool {
	return bytes.Compare(s.begin, key) <= 0 && (s.end == nil || bytes.Compare(key, s.end) < 0)
}

func (s span) empty() bool { return s.end != nil && bytes.Compare(s.begin, s.end) >= 0 }

func (s span) meets(o span) bool {
	return !s.empty() && !o.empty() &&
		(o.end == nil || bytes.Compare(s.begin, o.end) < 0) && (s.end == nil || bytes.Compare(o.begin, s.end) < 0)
}

// wait is one WaitChange under way.
type wait struct {
	key     []byte
	changed chan struct{}
}

var _ engine.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{began: time.Now(), version: 1, rows: btree.NewG(degree, less), waits: make(map[*wait]struct{})}
}

// Limits implements engine.Store.
func (s *Store) Limits() engine.Limits { return limits }

// Close implements engine.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for w := range s.waits {
		close(w.changed)
	}
	clear(s.waits)
	return nil
}

// tick returns a version above all earlier ones. s.mu is held.
func (s *Store) tick() uint64 {
	s.version = max(s.version+1, s.ahead+uint64(time.Since(s.began)/(time.Second/versionsPerSecond)))
	return s.version
}

// read returns the newest state.
func (s *Store) read(ctx context.Context) (*btree.BTreeG[row], uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, engine.ErrClosed
	}
	if s.view == nil {
		s.view = s.rows.Clone()
	}
	return s.view, s.tick(), nil
}

// Snapshot implements engine.Store.
func (s *Store) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	rows, version, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	return &snapshot{reader{rows: rows, version: version}}, nil
}

// Begin implements engine.Store.
func (s *Store) Begin(ctx context.Context) (engine.Txn, error) {
	s.mu.Lock()
	life := s.life
	s.mu.Unlock()
	rows, version, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	return &txn{reader: reader{rows: rows, version: version}, s: s, life: life}, nil
}

// WaitChange implements engine.Store.
func (s *Store) WaitChange(ctx context.Context, key, old []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &wait{bytes.Clone(key), make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return engine.ErrClosed
	}
	now, ok := s.rows.Get(row{key: key})
	if ok != (old != nil) || !bytes.Equal(now.value, old) {
		s.mu.Unlock()
		return nil
	}
	s.waits[w] = struct{}{}
	s.mu.Unlock()
	select {
	case <-w.changed:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed {
			return engine.ErrClosed
		}
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waits, w)
		return ctx.Err()
	}
}

// conflicts reports whether something that t has read was written after its version. s.mu is held.
func (s *Store) conflicts(t *txn) bool {
	for i := len(s.commits) - 1; i >= 0 && s.commits[i].version > t.version; i-- {
		if s.commits[i].hits(t) {
			return true
		}
	}
	return false
}

func (c *commit) hits(t *txn) bool {
	for key := range t.keys {
		if _, ok := c.keys[key]; ok {
			return true
		}
		for _, s := range c.spans {
			if s.has([]byte(key)) {
				return true
			}
		}
	}
	for _, r := range t.spans {
		for key := range c.keys {
			if r.has([]byte(key)) {
				return true
			}
		}
		for _, s := range c.spans {
			if r.meets(s) {
				return true
			}
		}
	}
	return false
}

// apply makes t's changes. It cannot fail. s.mu is held.
func (s *Store) apply(t *txn) (version uint64) {
	version = s.tick()
	s.view = nil
	c := commit{version: version, keys: make(map[string]struct{}), spans: t.touched}
	for _, m := range t.changes {
		m(s, version, &c)
	}
	s.commits = append(s.commits, c)
	if n := len(s.commits) - historyMax; n > 0 {
		s.floor = s.commits[n-1].version
		clear(s.commits[:n])
		s.commits = s.commits[n:] // append copies them to a new array now and then
	}
	for w := range s.waits {
		if c.wrote(w.key) {
			close(w.changed)
			delete(s.waits, w)
		}
	}
	return version
}

func (c *commit) wrote(key []byte) bool {
	if _, ok := c.keys[string(key)]; ok {
		return true
	}
	for _, s := range c.spans {
		if s.has(key) {
			return true
		}
	}
	return false
}

func (s *Store) set(c *commit, key, value []byte) {
	s.rows.ReplaceOrInsert(row{key, value})
	c.keys[string(key)] = struct{}{}
}

func (s *Store) clear(c *commit, r span) {
	var gone []row
	collect := func(w row) bool { gone = append(gone, w); return true }
	if r.end == nil {
		s.rows.AscendGreaterOrEqual(row{key: r.begin}, collect)
	} else {
		s.rows.AscendRange(row{key: r.begin}, row{key: r.end}, collect)
	}
	for _, w := range gone {
		s.rows.Delete(w)
	}
	c.spans = append(c.spans, r)
}
