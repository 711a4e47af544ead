package bus

import "sync"

// Local is a Bus within one process. Publish and Nudge call the subscribers directly, so a subscriber must not call the
// bus. Make one with NewLocal.
type Local struct {
	// mu is held for reading while subscribers run, so that cancel and Close wait for them.
	mu     sync.RWMutex
	closed bool
	frames topics[func(*Frame)]
	nudges topics[func()]
}

var _ Bus = (*Local)(nil)

// NewLocal returns a bus that connects the parts of one process.
func NewLocal() *Local {
	return &Local{frames: topics[func(*Frame)]{}, nudges: topics[func()]{}}
}

// topics are the subscriptions of each keyspace.
type topics[F any] map[string]map[*subscription[F]]struct{}

// subscription calls f from one goroutine at a time.
type subscription[F any] struct {
	mu sync.Mutex
	f  F
}

// Publish calls the subscribers with f.
func (l *Local) Publish(f *Frame) error {
	if err := checkName(f.Keyspace); err != nil {
		return err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return ErrClosed
	}
	for s := range l.frames[f.Keyspace] {
		s.do(func(receive func(*Frame)) { receive(f) })
	}
	return nil
}

// Subscribe is as in Bus.
func (l *Local) Subscribe(keyspace string, f func(*Frame)) (cancel func(), err error) {
	return subscribe(l, l.frames, keyspace, f)
}

// Nudge calls those who wait for nudges.
func (l *Local) Nudge(keyspace string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for s := range l.nudges[keyspace] {
		s.do(func(f func()) { f() })
	}
}

// OnNudge is as in Bus.
func (l *Local) OnNudge(keyspace string, f func()) (cancel func(), err error) {
	return subscribe(l, l.nudges, keyspace, f)
}

// Close ends all subscriptions.
func (l *Local) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	clear(l.frames)
	clear(l.nudges)
	return nil
}

func (s *subscription[F]) do(call func(F)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	call(s.f)
}

func subscribe[F any](l *Local, t topics[F], keyspace string, f F) (cancel func(), err error) {
	if err := checkName(keyspace); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	s := &subscription[F]{f: f}
	if t[keyspace] == nil {
		t[keyspace] = map[*subscription[F]]struct{}{}
	}
	t[keyspace][s] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if delete(t[keyspace], s); len(t[keyspace]) == 0 {
			delete(t, keyspace)
		}
	}, nil
}

func checkName(keyspace string) error {
	if len(keyspace) > KeyspaceMax {
		return ErrKeyspace
	}
	return nil
}
