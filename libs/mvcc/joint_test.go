package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/fair"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// company is Stores that have a Joint, on an engine whose commits can be held up and made to fail.
type company struct {
	t      *testing.T
	e      *faults.Store
	j      *mvcc.Joint
	stores []*mvcc.Store
	feeds  []*feed

	mu    sync.Mutex
	held  chan struct{} // commits wait until it is closed; nil: they do not
	under int           // commits that wait
	fault faults.Fault  // of a commit
	spare int           // commits before it

	scan atomic.Pointer[func(begin []byte)] // is called before every scan, if set; it may wait
}

func newCompany(t *testing.T, n int, o mvcc.Options, turn mvcc.JointTurn) *company {
	t.Helper()
	c := &company{t: t}
	c.e = faults.New(openPebble(t, pebble.Options{}), faults.Options{
		KeepPipelined: true, Delay: c.delay, Script: c.script,
	})
	c.j = mvcc.NewJoint(c.e, turn)
	t.Cleanup(func() {
		if err := c.j.Close(); err != nil {
			t.Error(err)
		}
	})
	o.Joint = c.j
	for i := range n {
		c.feeds = append(c.feeds, new(feed))
		c.stores = append(c.stores, openFed(t, c.e, c.options(o, i), c.feeds[i]))
	}
	return c
}

func (c *company) options(o mvcc.Options, i int) mvcc.Options {
	o.Prefix = fmt.Appendf(nil, "\xff%03d", i)
	return o
}

func (c *company) delay(ctx context.Context, op faults.Op) {
	if op != faults.Commit {
		return
	}
	c.mu.Lock()
	held := c.held
	if held != nil {
		c.under++
	}
	c.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
		}
	}
}

func (c *company) script(call faults.Call) (faults.Fault, bool) {
	if scan := c.scan.Load(); scan != nil && call.Op == faults.Scan {
		(*scan)(call.Key)
	}
	if call.Op != faults.Commit {
		return faults.None, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spare--; c.spare >= 0 {
		return faults.None, false
	}
	f := c.fault
	c.fault = faults.None
	return f, f != faults.None
}

// hold holds commits up. The function that it returns lets them go.
func (c *company) hold() (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := make(chan struct{})
	c.held, c.under = held, 0
	return sync.OnceFunc(func() {
		c.mu.Lock()
		c.held = nil
		c.mu.Unlock()
		close(held)
	})
}

// held returns how many commits are held up.
func (c *company) holds() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.under
}

// fails makes the commit fail that comes after the one that is held up.
func (c *company) fails(f faults.Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault, c.spare = f, 1
}

// waits makes a request of a Store wait behind a commit that is held up, and returns its outcome.
func (c *company) waits(i int, do func(*mvcc.Store) error) (outcome func() error) {
	c.t.Helper()
	before := c.stores[i].Waiting()
	done := make(chan error, 1)
	go func() { done <- do(c.stores[i]) }()
	waitFor(c.t, func() bool { return c.stores[i].Waiting() > before })
	return func() error { return <-done }
}

// puts is a request of a Store.
func puts(ctx context.Context, key, value string) func(*mvcc.Store) error {
	return func(s *mvcc.Store) error {
		_, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte(key), Value: []byte(value)})
		return err
	}
}

// busy has a commit of the first Store under way. The function that it returns lets it go, and fails the test if it
// did not succeed.
func (c *company) busy() (release func()) {
	c.t.Helper()
	let := c.hold()
	done := make(chan error, 1)
	go func() { done <- puts(c.t.Context(), "busy", "")(c.stores[0]) }()
	waitFor(c.t, func() bool { return c.holds() == 1 })
	return func() {
		c.t.Helper()
		let()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	}
}

// dense checks that what a Store has fed has the revisions up to last, each once and in order, and its rows.
func (c *company) dense(i int, last int64) {
	c.t.Helper()
	waitFor(c.t, func() bool { return c.feeds[i].reached(last) })
	all := c.feeds[i].all()
	if len(all) != int(last)-1 {
		c.t.Errorf("store %d: %d entries up to %d", i, len(all), last)
	}
	for n, entry := range all {
		if entry.Rev != int64(n+2) {
			c.t.Fatalf("store %d: entry %d has revision %d", i, n, entry.Rev)
		}
	}
	if head, err := c.stores[i].Head(c.t.Context()); err != nil || head != last {
		c.t.Errorf("store %d: head %d, %v, but %d was made", i, head, err, last)
	}
	check(c.t, c.e, c.stores[i], fmt.Appendf(nil, "\xff%03d", i), false)
}

// counts are a Joint's.
func (c *company) counts() [3]int64 {
	s := c.j.Stats()
	return [3]int64{s.Commits.Load(), s.Groups.Load(), s.Alone.Load()}
}

// TestJoint: what several Stores have waiting goes in one transaction, each with its own next revisions.
func TestJoint(t *testing.T) {
	c := newCompany(t, 6, mvcc.Options{}, nil)
	release := c.busy()
	var outcomes []func() error
	for i := range c.stores {
		outcomes = append(outcomes, c.waits(i, puts(t.Context(), "a", "1")), c.waits(i, puts(t.Context(), "b", "2")))
	}
	release()
	for _, outcome := range outcomes {
		if err := outcome(); err != nil {
			t.Error(err)
		}
	}
	if got, want := c.counts(), ([3]int64{2, 7, 0}); got != want {
		t.Errorf("commits, groups in them, groups alone: %d, want %d", got, want)
	}
	for i := range c.stores {
		last := int64(3)
		if i == 0 {
			last++
		}
		c.dense(i, last)
	}
}

// TestJointOne: a Store that has no company serves itself.
func TestJointOne(t *testing.T) {
	c := newCompany(t, 1, mvcc.Options{}, nil)
	put(t, c.stores[0], "a", "")
	if got := c.counts(); got != [3]int64{} {
		t.Error(got)
	}
	c.dense(0, 2)
}

// TestJointRefused: if the transaction is refused, every Store commits by itself, and nobody is told anything else. A
// request at fault is refused alone.
func TestJointRefused(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault faults.Fault
	}{
		{"conflict", faults.Conflict},
		{"too large", faults.TooLarge},
		{"no space", faults.NoSpace},
		{"unavailable", faults.Unavailable},
		{"too old", faults.TooOld},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCompany(t, 4, mvcc.Options{}, nil)
			release := c.busy()
			var outcomes []func() error
			for i := range c.stores {
				for _, key := range []string{"a", "b"} {
					outcomes = append(outcomes, c.waits(i, puts(t.Context(), key, "1")))
				}
			}
			c.fails(test.fault)
			release()
			for _, outcome := range outcomes {
				if err := outcome(); err != nil {
					t.Error(err)
				}
			}
			if got, want := c.counts(), ([3]int64{1, 1, 4}); got != want {
				t.Errorf("commits, groups in them, groups alone: %d, want %d", got, want)
			}
			c.dense(0, 4)
			for i := range 3 {
				c.dense(i+1, 3)
			}
		})
	}
}

// TestJointOddRequests: requests that are not plain are left to their Store's lane, with all that waits there, and do
// not concern the others.
func TestJointOddRequests(t *testing.T) {
	c := newCompany(t, 5, mvcc.Options{LightRows: 4}, nil)
	var ops []mvcc.Op
	for i := range 10 {
		ops = append(ops, mvcc.Op{Put: &mvcc.PutRequest{Key: fmt.Appendf(nil, "many%d", i)}})
	}
	if _, err := c.stores[1].Txn(t.Context(), &mvcc.TxnRequest{Success: ops}); err != nil {
		t.Fatal(err)
	}
	put(t, c.stores[4], "damaged", "x")
	c.e.Damage([]byte("\xff004idamaged"), []byte("\xff004idamagee"))
	before := c.counts()
	release := c.busy()
	heavy := c.waits(1, func(s *mvcc.Store) error {
		_, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("many"), End: []byte("n")})
		return err
	})
	behind := c.waits(1, puts(t.Context(), "behind", ""))
	large := c.waits(2, puts(t.Context(), "large", string(make([]byte, 100<<10))))
	plain := c.waits(3, puts(t.Context(), "plain", ""))
	damaged := c.waits(4, puts(t.Context(), "damaged", "y"))
	release()
	for _, outcome := range []func() error{heavy, behind, large, plain} {
		if err := outcome(); err != nil {
			t.Error(err)
		}
	}
	if err := damaged(); !errors.Is(err, mvcc.ErrCorrupt) {
		t.Error(err)
	}
	c.e.Mend()
	got := c.counts()
	for i := range got {
		got[i] -= before[i]
	}
	// busy, then plain alone or with behind; heavy and damaged have been left to their lanes
	if got[0] < 2 || got[2] < 1 {
		t.Errorf("commits, groups in them, groups alone: %d", got)
	}
	c.dense(1, 4)
	c.dense(2, 2)
	c.dense(3, 2)
}

// TestJointMany: a Store in which much waits takes its lane, and joins the others again when it is calm.
func TestJointMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, 2, mvcc.Options{}, nil)
		release := c.busy()
		var outcomes []func() error
		const many = 40
		for i := range many {
			outcomes = append(outcomes, c.waits(1, puts(t.Context(), fmt.Sprint(i), "")))
		}
		release()
		for _, outcome := range outcomes {
			if err := outcome(); err != nil {
				t.Error(err)
			}
		}
		if got, want := c.counts(), ([3]int64{1, 1, 0}); got != want {
			t.Errorf("commits, groups in them, groups alone: %d, want %d", got, want)
		}
		for range 40 { // a second or two
			put(t, c.stores[1], "calm", "")
			time.Sleep(100 * time.Millisecond)
		}
		got := c.counts()
		if got[1] < 10 {
			t.Errorf("it has not joined the others again: %d", got)
		}
		c.dense(1, 1+many+40)
	})
}

// TestJointSweeps: a request whose client has gone is answered although the engine does not answer, and so is one that
// has waited too long. What is committed meanwhile is.
func TestJointSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, 3, mvcc.Options{}, nil)
		release := c.hold()
		busy := make(chan error, 1)
		go func() { busy <- puts(t.Context(), "busy", "")(c.stores[0]) }()
		waitFor(t, func() bool { return c.holds() == 1 })
		ctx, gone := context.WithCancel(t.Context())
		cancelled, late := c.waits(1, puts(ctx, "a", "")), c.waits(2, puts(t.Context(), "a", ""))
		gone()
		begin := time.Now()
		if err := cancelled(); !errors.Is(err, context.Canceled) || time.Since(begin) > time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		if err := late(); !errors.Is(err, mvcc.ErrUnavailable) || time.Since(begin) > 10*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		if err := <-busy; !errors.Is(err, mvcc.ErrUnavailable) {
			t.Error(err)
		}
		release()
		put(t, c.stores[1], "b", "")
		c.dense(0, 2) // it was on its way
		c.dense(1, 2)
	})
}

// alone leaves a Store to its lane.
func (c *company) alone(i int) {
	c.t.Helper()
	put(c.t, c.stores[i], "large", string(make([]byte, 100<<10)))
}

// TestJointSlowLane: waits end in a Store that serves itself too, and might join the others soon, if the engine does not
// answer.
func TestJointSlowLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, 2, mvcc.Options{}, nil)
		c.alone(1)
		release := c.hold()
		defer release()
		for _, key := range []string{"under way", "behind"} {
			done := make(chan error, 1)
			go func() { done <- puts(t.Context(), key, "")(c.stores[1]) }()
			select {
			case err := <-done:
				if !errors.Is(err, mvcc.ErrUnavailable) {
					t.Errorf("%s: %v", key, err)
				}
			case <-time.After(10 * time.Second):
				t.Errorf("%s: no answer", key)
			}
		}
	})
}

// TestJointHeavyLane: a Store whose heavy lane works goes on serving its other requests, however few they are.
func TestJointHeavyLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, 2, mvcc.Options{LightRows: 4}, nil)
		var ops []mvcc.Op
		for i := range 10 {
			ops = append(ops, mvcc.Op{Put: &mvcc.PutRequest{Key: fmt.Appendf(nil, "many%d", i)}})
		}
		if _, err := c.stores[1].Txn(t.Context(), &mvcc.TxnRequest{Success: ops}); err != nil {
			t.Fatal(err)
		}
		c.alone(1)
		begun, goOn := make(chan struct{}), make(chan struct{})
		var scans atomic.Int32
		scan := func(begin []byte) {
			// The first scan of these keys is the light lane's.
			if string(begin) == "\xff001imany" && scans.Add(1) == 2 {
				close(begun)
				<-goOn
			}
		}
		c.scan.Store(&scan)
		heavy := make(chan error, 1)
		go func() {
			_, err := c.stores[1].DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("many"), End: []byte("n")})
			heavy <- err
		}()
		<-begun
		time.Sleep(3 * time.Second)
		light := make(chan error, 1)
		go func() { light <- puts(t.Context(), "light", "")(c.stores[1]) }()
		select {
		case err := <-light:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Second):
			t.Error("light work waits for heavy work")
		}
		close(goOn)
		if err := <-heavy; err != nil {
			t.Error(err)
		}
	})
}

// TestJointGivenUp: a Store can be closed while the engine takes no commit, and its group among them.
func TestJointGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, 3, mvcc.Options{CloseGrace: 50 * time.Millisecond}, nil)
		release := c.hold()
		stuck := make(chan error, 1)
		go func() { stuck <- puts(t.Context(), "a", "")(c.stores[0]) }()
		waitFor(t, func() bool { return c.holds() == 1 })
		other := c.waits(1, puts(t.Context(), "a", ""))
		if err := c.stores[0].Close(); err != nil {
			t.Error(err)
		}
		release()
		if err := <-stuck; !errors.Is(err, mvcc.ErrUnavailable) {
			t.Error(err)
		}
		if err := other(); err != nil {
			t.Error(err)
		}
		c.dense(1, 2)
	})
}

// TestJointClosed: a Store can be closed while its group is on its way, and while the engine does not answer. The
// others go on.
func TestJointClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(t, 3, mvcc.Options{CloseGrace: 50 * time.Millisecond}, nil)
		release := c.busy()
		stuck := c.waits(1, puts(t.Context(), "a", ""))
		other := c.waits(2, puts(t.Context(), "a", ""))
		if err := c.stores[1].Close(); err != nil {
			t.Errorf("closed while its group waits: %v", err)
		}
		if err := stuck(); !errors.Is(err, mvcc.ErrUnavailable) {
			t.Error(err)
		}
		release()
		if err := other(); err != nil {
			t.Error(err)
		}
		c.dense(2, 2)
	})
}

// TestJointTurns: the Joint takes turns with the weight of its Stores, and those of what they write.
func TestJointTurns(t *testing.T) {
	gate := fair.NewGate(1, quantum)
	turn := &weighed{Flow: gate.Flow(1)}
	c := newCompany(t, 0, mvcc.Options{}, turn)
	for i, weight := range []uint32{1, 2, 5} {
		o := c.options(mvcc.Options{Joint: c.j, Groups: gate.Flow(weight)}, i)
		c.stores, c.feeds = append(c.stores, open(t, c.e, o)), append(c.feeds, nil)
	}
	release := c.busy()
	one, two := c.waits(1, puts(t.Context(), "a", "")), c.waits(2, puts(t.Context(), "a", ""))
	release()
	if err := errors.Join(one(), two()); err != nil {
		t.Error(err)
	}
	if want := []uint32{1, 7}; !cmp.Equal(turn.weights, want) {
		t.Errorf("weights %d, want %d", turn.weights, want)
	}
}

// weighed is a flow whose weights are written down.
type weighed struct {
	*fair.Flow
	weights []uint32
}

func (w *weighed) SetWeight(weight uint32) {
	w.weights = append(w.weights, weight)
	w.Flow.SetWeight(weight)
}

// TestJointSideBySide: Stores that commit together answer every request as one that is alone does.
func TestJointSideBySide(t *testing.T) {
	seed := seed(t)
	shared := openEngine(t, pebble.Options{})
	j := mvcc.NewJoint(shared, nil)
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	driven := func(e engine.Store, i int, prefix string, j *mvcc.Joint) *driver {
		o := mvcc.Options{Prefix: []byte(prefix), InlineBytes: 3, ChunkBytes: 70, LightRows: 5, Joint: j}
		s := open(t, e, o)
		return &driver{t: t, r: rand.New(rand.NewPCG(seed, uint64(i))), s: s, m: newModel(1), e: e, o: o}
	}
	var among, alone []*driver
	for i, prefix := range prefixes {
		among = append(among, driven(shared, i, prefix, j))
		alone = append(alone, driven(openEngine(t, pebble.Options{}), i, prefix, nil))
	}
	steps := 150
	if testing.Short() {
		steps = 50
	}
	var wg sync.WaitGroup
	for _, d := range among {
		wg.Go(func() {
			for range steps {
				d.step()
			}
		})
	}
	wg.Wait()
	for _, d := range alone {
		for range steps {
			d.step()
		}
	}
	if j.Stats().Groups.Load() == 0 {
		t.Error("nothing was committed together")
	}
	for i, prefix := range prefixes {
		for _, d := range []*driver{among[i], alone[i]} {
			put(t, d.s, "last", "x")
			check(t, d.e, d.s, d.o.Prefix, false).checkReads(d.s, 1)
		}
		if diff := cmp.Diff(factsOf(t, alone[i].s), factsOf(t, among[i].s)); diff != "" {
			t.Errorf("keyspace %q (-alone +among others):\n%s", prefix, diff)
		}
	}
}
