package lease

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// fakeStore is a Store in memory. Each lease has as many keys as the test says.
type fakeStore struct {
	mu sync.Mutex
	// latency is how long grants and revokes take.
	latency time.Duration
	// fail, if set, decides about the error of a call and whether it took effect all the same.
	fail func(op string, id int64) (err error, done bool)

	rev      int64
	claims   map[int]int // by shard
	rows     map[int64]int64
	keys     map[int64][][]byte
	revokes  map[int64]time.Time // when it was deleted
	inFlight int
	peak     int

	steps map[int64]int // how many steps the end of a lease takes; 0: none
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		rev: 1, claims: map[int]int{}, rows: map[int64]int64{}, keys: map[int64][][]byte{},
		revokes: map[int64]time.Time{}, steps: map[int64]int{},
	}
}

var errDown = errors.New("store down")

// enter counts a write as in flight until the returned function is called.
func (s *fakeStore) enter() func() {
	s.mu.Lock()
	s.inFlight++
	s.peak = max(s.peak, s.inFlight)
	latency := s.latency
	s.mu.Unlock()
	if latency > 0 {
		time.Sleep(latency) // in a bubble: the latency that is simulated
	}
	return func() {
		s.mu.Lock()
		s.inFlight--
		s.mu.Unlock()
	}
}

func (s *fakeStore) verdict(op string, id int64) (error, bool) {
	s.mu.Lock()
	fail := s.fail
	s.mu.Unlock()
	if fail == nil {
		return nil, true
	}
	return fail(op, id)
}

func (s *fakeStore) setLatency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
}

func (s *fakeStore) setFail(f func(op string, id int64) (error, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// client is one process's connection to a fakeStore: fences of an older claim are void, and nothing is written any more
// once it is closed, as when the process has ended.
type client struct {
	*fakeStore
	shard  int // a client claims one shard
	claim  int
	closed bool
}

var _ Store = (*client)(nil)

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

func (c *client) ClaimLeases(_ context.Context, shard int) (mvcc.Fence, error) {
	if err, done := c.verdict("claim", 0); !done {
		return mvcc.Fence{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims[shard]++
	c.shard, c.claim = shard, c.claims[shard]
	return mvcc.Fence{}, nil
}

func (c *client) LeaseGrant(ctx context.Context, id, ttl int64, fence *mvcc.Fence) (int64, error) {
	defer c.enter()()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err, done := c.verdict("grant", id)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, mvcc.ErrClosed
	}
	if fence != nil && c.claim != c.claims[c.shard] {
		return 0, mvcc.ErrFenced
	}
	if _, exists := c.rows[id]; exists {
		return 0, mvcc.ErrLeaseExists
	}
	if done {
		c.rows[id] = ttl
		delete(c.revokes, id)
	}
	return c.rev, err
}

func (c *client) LeaseRevoke(ctx context.Context, id int64, fence *mvcc.Fence) (int64, error) {
	defer c.enter()()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err, done := c.verdict("revoke", id)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, mvcc.ErrClosed
	}
	if fence != nil && c.claim != c.claims[c.shard] {
		return 0, mvcc.ErrFenced
	}
	if _, exists := c.rows[id]; !exists {
		return 0, mvcc.ErrLeaseNotFound
	}
	if done && c.steps[id] > 0 {
		c.rows[id] = mvcc.LeaseEnding
		return 0, cmp.Or(err, mvcc.ErrLeaseEnding)
	}
	if done {
		delete(c.rows, id)
		c.revokes[id] = time.Now()
		if len(c.keys[id]) > 0 {
			c.rev++
			delete(c.keys, id)
		}
	}
	return c.rev, err
}

func (c *client) LeaseRevokeStep(ctx context.Context, id int64, fence *mvcc.Fence) (int64, bool, error) {
	defer c.enter()()
	if err := ctx.Err(); err != nil {
		return 0, false, err
	}
	err, done := c.verdict("step", id)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return 0, false, mvcc.ErrClosed
	case fence != nil && c.claim != c.claims[c.shard]:
		return 0, false, mvcc.ErrFenced
	case c.rows[id] != mvcc.LeaseEnding:
		return 0, false, mvcc.ErrLeaseNotFound
	case !done:
		return 0, false, err
	}
	c.rev++
	if c.steps[id]--; c.steps[id] > 0 {
		return c.rev, false, err
	}
	delete(c.rows, id)
	c.revokes[id] = time.Now()
	return c.rev, err == nil, err
}

func (s *fakeStore) LeaseKeys(_ context.Context, id int64) ([][]byte, int64, error) {
	if err, done := s.verdict("keys", id); !done {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.keys[id]), s.rev, nil
}

func (s *fakeStore) Leases(_ context.Context, visit func(id, ttl int64) error) error {
	if err, done := s.verdict("leases", 0); !done {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, ttl := range s.rows {
		if err := visit(id, ttl); err != nil {
			return err
		}
	}
	return nil
}

func (s *fakeStore) Head(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rev, nil
}

// put attaches a key, if the lease is there.
func (s *fakeStore) put(id int64, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, exists := s.rows[id]; !exists {
		return
	}
	s.rev++
	s.keys[id] = append(s.keys[id], []byte(key))
}

// erase revokes a lease behind the keeper's back.
func (s *fakeStore) erase(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows, id)
}

func (s *fakeStore) has(id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, exists := s.rows[id]
	return exists
}

func (s *fakeStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rows)
}

// endIn makes the end of a lease take a number of steps.
func (s *fakeStore) endIn(id int64, steps int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps[id] = steps
}

// left is how many steps the end of a lease still takes, and its row.
func (s *fakeStore) left(id int64) (steps int, row int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.steps[id], s.rows[id]
}
