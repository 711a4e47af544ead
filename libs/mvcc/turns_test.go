package mvcc_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/fair"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// granted is a turn that somebody had.
type granted struct {
	who string
	got int64
}

// book writes down who had turns. With one place at a gate the order is that in which they were given.
type book struct {
	mu    sync.Mutex
	turns []granted
}

func (b *book) all() []granted {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.turns)
}

// noted is a flow whose turns are written down.
type noted struct {
	*fair.Flow
	who   string
	book  *book
	leave func() // called before a turn ends; nil: nothing is
}

func (n *noted) Enter(ctx context.Context, least, most int64) (int64, error) {
	got, err := n.Flow.Enter(ctx, least, most)
	if err == nil {
		n.book.mu.Lock()
		n.book.turns = append(n.book.turns, granted{n.who, got})
		n.book.mu.Unlock()
	}
	return got, err
}

func (n *noted) Leave() {
	if n.leave != nil {
		n.leave()
	}
	n.Flow.Leave()
}

const quantum = 64 << 10

// neighbour opens a keyspace of its own on eng.
func neighbour(t *testing.T, eng engine.Store, who string, change func(*mvcc.Options)) *mvcc.Store {
	t.Helper()
	o := mvcc.Options{Prefix: []byte("\x80" + who + "/")}
	change(&o)
	return open(t, eng, o)
}

// hoard puts n keys at once, and returns when all of them wait.
func hoard(t *testing.T, s *mvcc.Store, n int, wg *sync.WaitGroup) {
	t.Helper()
	for i := range n {
		wg.Go(func() {
			if _, err := s.Put(context.Background(), &mvcc.PutRequest{Key: fmt.Append(nil, i)}); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, func() bool { return s.Waiting() == n })
}

// TestGroupsInTurn: beside a keyspace with any number of writes that wait, each other one commits before that one has
// had its quantum twice.
func TestGroupsInTurn(t *testing.T) {
	const hoarded, others = 1500, 10
	eng := openEngine(t, pebble.Options{})
	g, b := fair.NewGate(1, quantum), &book{}
	with := func(who string) func(*mvcc.Options) {
		return func(o *mvcc.Options) { o.Groups = &noted{Flow: g.Flow(1), who: who, book: b} }
	}
	door := g.Flow(1)
	if _, err := door.Enter(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	hoard(t, neighbour(t, eng, "greedy", with("greedy")), hoarded, &wg)
	for i := range others {
		s := neighbour(t, eng, fmt.Sprint("other", i), with(fmt.Sprint("other", i)))
		wg.Go(func() { put(t, s, "k", "v") })
	}
	waitFor(t, func() bool { return g.Waiting() == others+1 })
	door.Leave()
	wg.Wait()
	var greedy int64
	seen := 0
	for _, turn := range b.all() {
		if turn.who == "greedy" {
			greedy += turn.got
			continue
		}
		if seen++; greedy > 2*quantum {
			t.Errorf("%s had its turn after %d bytes of the greedy one", turn.who, greedy)
		}
	}
	if seen != others || greedy < hoarded<<10 {
		t.Errorf("%d turns of others, %d bytes of the greedy one", seen, greedy)
	}
}

// TestLanesInTurn: the same of keyspaces with several lanes, as pods have them.
func TestLanesInTurn(t *testing.T) {
	const hoarded, others = 600, 8
	eng := openEngine(t, fdb)
	g, b := fair.NewGate(1, quantum), &book{}
	with := func(who string) func(*mvcc.Options) {
		return func(o *mvcc.Options) { o.Lanes, o.Groups = 4, &noted{Flow: g.Flow(1), who: who, book: b} }
	}
	door := g.Flow(1)
	if _, err := door.Enter(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	hoard(t, neighbour(t, eng, "greedy", with("greedy")), hoarded, &wg)
	for i := range others {
		s := neighbour(t, eng, fmt.Sprint("other", i), with(fmt.Sprint("other", i)))
		wg.Go(func() { put(t, s, "k", "v") })
	}
	waitFor(t, func() bool { return g.Waiting() == others+1 })
	door.Leave()
	wg.Wait()
	var greedy int64
	seen := map[string]bool{}
	for _, turn := range b.all() {
		if turn.who == "greedy" {
			greedy += turn.got
			continue
		}
		if !seen[turn.who] && greedy > 2*quantum {
			t.Errorf("%s had its turn after %d bytes of the greedy one", turn.who, greedy)
		}
		seen[turn.who] = true
	}
	if len(seen) != others || greedy < hoarded<<10 {
		t.Errorf("turns of %d others, %d bytes of the greedy one", len(seen), greedy)
	}
}

// TestHeavyInLanes: where there is no heavy lane, what visits much goes on with heavy turns, and nobody who writes
// little waits for it.
func TestHeavyInLanes(t *testing.T) {
	eng := openEngine(t, fdb)
	groups, heavies := fair.NewGate(1, quantum), fair.NewGate(1, quantum)
	with := func(o *mvcc.Options) {
		o.Lanes, o.LightRows = 2, 100
		o.Groups, o.Heavies = groups.Flow(1), heavies.Flow(1)
	}
	heavy, light := neighbour(t, eng, "heavy", with), neighbour(t, eng, "light", with)
	var keys []mvcc.Op
	for i := range 250 {
		keys = append(keys, mvcc.Op{Put: &mvcc.PutRequest{Key: fmt.Append(nil, "k", i)}})
	}
	if _, err := heavy.Txn(t.Context(), &mvcc.TxnRequest{Success: keys}); err != nil {
		t.Fatal(err)
	}
	door := heavies.Flow(1)
	if _, err := door.Enter(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := heavy.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l")})
		ended <- err
	}()
	waitFor(t, func() bool { return heavies.Waiting() == 1 })
	put(t, light, "k", "v")
	put(t, heavy, "other", "v") // by its other lane
	door.Leave()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n, _, err := heavy.Keys(t.Context()); n != 1 || err != nil {
		t.Errorf("%d keys are left: %v", n, err)
	}
}

// TestGroupsByWeight: of two keyspaces whose writes always wait, the one with three times the weight commits three
// times as much.
func TestGroupsByWeight(t *testing.T) {
	const hoarded = 1500
	eng := openEngine(t, pebble.Options{})
	g, b := fair.NewGate(1, quantum), &book{}
	var stores [2]*mvcc.Store
	for i, weight := range []uint32{1, 3} {
		turn := &noted{Flow: g.Flow(weight), who: fmt.Sprint(weight), book: b}
		turn.leave = func() { // not before the other waits again: its lane has more to do than take turns
			waitFor(t, func() bool { return g.Waiting() > 0 || stores[1-i].Waiting() == 0 })
		}
		stores[i] = neighbour(t, eng, fmt.Sprint("w", weight), func(o *mvcc.Options) { o.Groups = turn })
	}
	door := g.Flow(1)
	if _, err := door.Enter(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, s := range stores {
		hoard(t, s, hoarded, &wg)
	}
	waitFor(t, func() bool { return g.Waiting() == 2 })
	door.Leave()
	wg.Wait()
	sums := map[string]int64{}
	for _, turn := range b.all() {
		if sums[turn.who] += turn.got; sums["3"] > (hoarded-200)<<10 {
			break // soon it will have nothing that waits
		}
		if d := sums["3"]/3 - sums["1"]; d > 2*quantum || -d > 2*quantum {
			t.Errorf("%d of weight 1 beside %d of weight 3", sums["1"], sums["3"])
		}
	}
	if sums["3"] < hoarded<<9 {
		t.Errorf("only %d of weight 3", sums["3"])
	}
}

// TestReadsInTurn: a list lets others read before it has gone on for long, and is the same list afterwards.
func TestReadsInTurn(t *testing.T) {
	const rows = 2000
	eng := openEngine(t, pebble.Options{})
	g, b := fair.NewGate(1, quantum), &book{}
	with := func(who string) func(*mvcc.Options) {
		return func(o *mvcc.Options) { o.Reads = &noted{Flow: g.Flow(1), who: who, book: b} }
	}
	list, point := neighbour(t, eng, "list", with("list")), neighbour(t, eng, "point", with("point"))
	put(t, point, "k", "v")
	var wg sync.WaitGroup
	for i := range rows {
		wg.Go(func() { put(t, list, fmt.Sprintf("%04d", i), "0123456789012345678901234567890123456789") })
	}
	wg.Wait()
	seen := 0
	info, err := list.Range(t.Context(), &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}}, func(kv *mvcc.KV) error {
		if want := fmt.Sprintf("%04d", seen); string(kv.Key) != want {
			t.Errorf("key %q, want %s", kv.Key, want)
		}
		if seen++; seen == 10 {
			wg.Go(func() {
				r := &mvcc.RangeRequest{Key: []byte("k")}
				info, err := point.Range(context.Background(), r, func(*mvcc.KV) error { return nil })
				if err != nil || info.Count != 1 {
					t.Error(info, err)
				}
			})
			waitFor(t, func() bool { return g.Waiting() == 1 })
		}
		return nil
	})
	if err != nil || info.Count != rows || seen != rows {
		t.Errorf("%d of %d rows, %v", seen, info.Count, err)
	}
	wg.Wait()
	turns := b.all()
	if len(turns) < 4 || turns[1].who != "point" {
		t.Errorf("turns %v", turns)
	}
	if g.Waiting() != 0 {
		t.Errorf("%d wait", g.Waiting())
	}
	// One that is cut short has given its place back, and so has one whose client does not wait for its turn.
	ctx, cancel := context.WithCancel(t.Context())
	door := g.Flow(1)
	if _, err := door.Enter(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		waitFor(t, func() bool { return g.Waiting() == 1 })
		cancel()
	})
	if _, err := list.Range(ctx, &mvcc.RangeRequest{Key: []byte("k")}, nil); err == nil {
		t.Error("a read without a turn")
	}
	wg.Wait()
	door.Leave()
	if _, err := door.Enter(t.Context(), 1, 1); err != nil || g.Waiting() != 0 {
		t.Error("the place is lost", err)
	}
	door.Leave()
}
