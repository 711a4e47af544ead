package feed

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const keyspace = "default-1"

var errDown = errors.New("the log is down")

// fakeLog is a log in memory.
type fakeLog struct {
	mu         sync.Mutex
	entries    []revlog.Payload
	created    int64 // the head while there are no entries
	removed    int64 // entries below it are gone
	compact    int64
	changed    chan struct{} // closed at the next commit
	reads      int
	authNumber atomic.Uint64
	// fail, if set, is asked before each call and may wait.
	fail func(ctx context.Context, call string) error
}

func newFakeLog() *fakeLog {
	return &fakeLog{entries: []revlog.Payload{payload(1)}, changed: make(chan struct{})}
}

// commit adds an entry that many revisions after the last.
func (l *fakeLog) commit(steps ...int64) (head int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, step := range steps {
		l.entries = append(l.entries, payload(l.headLocked()+step))
	}
	close(l.changed)
	l.changed = make(chan struct{})
	return l.headLocked()
}

// commitLarge adds an entry of about size bytes.
func (l *fakeLog) commitLarge(size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := payload(l.headLocked() + 1)
	p.Bytes = append(p.Bytes, make([]byte, size)...)
	l.entries = append(l.entries, p)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *fakeLog) headLocked() int64 {
	if len(l.entries) == 0 {
		return l.created
	}
	return l.entries[len(l.entries)-1].Rev
}

// remove drops the entries below rev.
func (l *fakeLog) remove(rev int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removed, l.compact = rev, rev
	l.entries = slices.DeleteFunc(l.entries, func(p revlog.Payload) bool { return p.Rev < rev })
}

// setBack drops the entries above rev, as a restore of the database would.
func (l *fakeLog) setBack(rev int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = slices.DeleteFunc(l.entries, func(p revlog.Payload) bool { return p.Rev > rev })
}

func (l *fakeLog) setFail(f func(ctx context.Context, call string) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = f
}

func (l *fakeLog) ask(ctx context.Context, call string) error {
	l.mu.Lock()
	f := l.fail
	l.mu.Unlock()
	if f == nil {
		return ctx.Err()
	}
	return f(ctx, call)
}

func (l *fakeLog) Head(ctx context.Context) (int64, error) {
	if err := l.ask(ctx, "Head"); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.headLocked(), nil
}

// AuthNumber is that of users and roles: authNumber has been set before the call.
func (l *fakeLog) AuthNumber() uint64 { return max(2, l.authNumber.Load()) }

func (l *fakeLog) ReadPayloads(ctx context.Context, from int64, maxEntries,
	maxBytes int,
) (p []revlog.Payload, next, compact int64, err error) {
	if err := l.ask(ctx, "ReadPayloads"); err != nil {
		return nil, 0, 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	compact = l.compact
	if compact == 0 {
		compact = -1
	}
	head := l.headLocked()
	if from > head {
		return nil, from, compact, nil
	}
	if from < l.removed {
		return nil, 0, 0, mvcc.ErrCompacted
	}
	i, _ := slices.BinarySearchFunc(l.entries, from, func(p revlog.Payload, rev int64) int { return int(p.Rev - rev) })
	for _, e := range l.entries[i:] {
		p = append(p, e)
		if maxBytes -= len(e.Bytes); len(p) == maxEntries || maxBytes <= 0 {
			return p, e.Rev + 1, compact, nil
		}
	}
	return p, head + 1, compact, nil
}

func (l *fakeLog) Check(p revlog.Payload) error { return checkPayload(p) }

func (l *fakeLog) WaitHead(ctx context.Context, rev int64) error {
	if err := l.ask(ctx, "WaitHead"); err != nil {
		return err
	}
	l.mu.Lock()
	reached, changed := l.headLocked() >= rev, l.changed
	l.mu.Unlock()
	if reached {
		return nil
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// revs returns the revisions after rev.
func (l *fakeLog) revs(rev int64) (out []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.entries {
		if p.Rev > rev {
			out = append(out, p.Rev)
		}
	}
	return out
}

func (l *fakeLog) readCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reads
}

// hub is what a follower feeds; it checks what I6 says.
type hub struct {
	t  *testing.T
	mu sync.Mutex
	// starts are the positions of all resets, revs what has been applied since the last.
	starts   []int64
	revs     []int64
	compacts []int64
	stalls   []bool
}

func (h *hub) reset(position int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.starts, h.revs = append(h.starts, position), nil
}

func (h *hub) apply(entries []revlog.Payload) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.starts) == 0 {
		h.t.Error("Apply before Reset")
		return
	}
	at := h.starts[len(h.starts)-1]
	if len(h.revs) > 0 {
		at = h.revs[len(h.revs)-1]
	}
	for _, e := range entries {
		if e.Rev <= at {
			h.t.Errorf("revision %d after %d", e.Rev, at)
		}
		if err := checkPayload(e); err != nil {
			h.t.Errorf("revision %d holds %q: %v", e.Rev, e.Bytes, err)
		}
		at = e.Rev
		h.revs = append(h.revs, at)
	}
}

func (h *hub) options() FollowerOptions {
	return FollowerOptions{
		Keyspace: keyspace, Reset: h.reset, Apply: h.apply,
		Compact: func(rev int64) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.compacts = append(h.compacts, rev)
		},
		Stall: func(is bool) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.stalls = append(h.stalls, is)
		},
	}
}

// check compares what has been applied with the log.
func (h *hub) check(l *fakeLog) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if want := l.revs(h.starts[len(h.starts)-1]); !slices.Equal(want, h.revs) {
		h.t.Errorf("after %d: applied %v, the log has %v", h.starts, h.revs, want)
	}
}

func get[T any](h *hub, of *[]T) []T {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(*of)
}

func (h *hub) resets() []int64      { return get(h, &h.starts) }
func (h *hub) applied() []int64     { return get(h, &h.revs) }
func (h *hub) compactions() []int64 { return get(h, &h.compacts) }
func (h *hub) stallings() []bool    { return get(h, &h.stalls) }

// group runs things until stop.
type group struct {
	// run runs f until stop is called, or that of the group.
	run  func(f func(context.Context) error) (stop func())
	stop func()
}

func newGroup(t *testing.T) *group {
	ctx, cancel := context.WithCancel(t.Context())
	g := &group{}
	var wg sync.WaitGroup
	g.stop = func() { cancel(); wg.Wait() }
	g.run = func(f func(context.Context) error) (stop func()) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			if err := f(ctx); err != nil {
				t.Error(err)
			}
		})
		return func() { cancel(); <-done }
	}
	return g
}

// lossy is a bus that loses, repeats and reorders frames and loses nudges.
type lossy struct {
	bus.Bus
	mu   sync.Mutex
	rnd  *rand.Rand
	loss int // in percent
	held []*bus.Frame
}

func (b *lossy) Publish(f *bus.Frame) error {
	b.mu.Lock()
	var out []*bus.Frame
	switch n := b.rnd.IntN(100); {
	case n < b.loss:
	case n < b.loss+10:
		out = append(out, f, f)
	case n < b.loss+20:
		b.held = append(b.held, f) // for later
	default:
		out = append(out, f)
	}
	if b.rnd.IntN(5) == 0 {
		b.rnd.Shuffle(len(b.held), func(i, j int) { b.held[i], b.held[j] = b.held[j], b.held[i] })
		out = append(out, b.held...)
		b.held = nil
	}
	b.mu.Unlock()
	for _, f := range out {
		if err := b.Bus.Publish(f); err != nil {
			return err
		}
	}
	return nil
}

func (b *lossy) Nudge(keyspace string) {
	b.mu.Lock()
	lost := b.rnd.IntN(100) < b.loss
	b.mu.Unlock()
	if !lost {
		b.Bus.Nudge(keyspace)
	}
}

func lint(t *testing.T, c prometheus.Collector) (texts []string) {
	t.Helper()
	problems, err := testutil.CollectAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		texts = append(texts, p.Metric+": "+p.Text)
	}
	return texts
}
