package sidebyside

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// The concurrent mode: several clients at once on one server, each on keys and leases of its own, and on one counter
// that all increment with compare-and-swap. Each client makes the same decisions on both servers, because they depend
// only on its seed and on answers that do not depend on the order of the clients. The comparison leaves out what
// depends on that order: revisions, and how often a compare-and-swap of the counter was repeated.

const (
	counterKey      = "counter"
	counterTriesMax = 10_000
	concurrentKeys  = 6
	watchLogTimeout = 2 * time.Minute
)

// concurrentRun is the result of a concurrent run on one server, without anything that depends on the order of clients.
type concurrentRun struct {
	answers  [][]string          // per client
	events   map[string][]string // per key, in revision order; not for the counter
	counter  int
	problems []string
}

// runConcurrently lets clients work on t and returns the result. Each makes steps operations.
func runConcurrently(t *Target, seed uint64, clients, steps int) (*concurrentRun, error) {
	live, err := openStream(t.clients.watch)
	if err != nil {
		return nil, err
	}
	defer live.close()
	created := live.create(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true})
	if created == nil {
		return nil, fmt.Errorf("%s: no watch: %w", t.name, live.err())
	}
	from := created.GetHeader().GetRevision() + 1

	run := &concurrentRun{answers: make([][]string, clients), events: map[string][]string{}}
	var wg sync.WaitGroup
	for i := range clients {
		c := &concurrentClient{
			t: t, id: int64(i + 1), rng: rand.New(rand.NewPCG(seed, uint64(i))),
			mods: map[string]int64{},
		}
		wg.Go(func() { run.answers[i] = c.work(steps) })
	}
	wg.Wait()
	return run, run.collect(t, live, from)
}

// collect reads the counter and compares the live watch with one that replays the history.
func (run *concurrentRun) collect(t *Target, live *stream, from int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	res, err := t.clients.kv.Range(ctx, &pb.RangeRequest{Key: []byte(counterKey)})
	if err != nil {
		return err
	}
	if len(res.GetKvs()) == 1 {
		// The counter is 0 if it cannot be parsed, which is a difference.
		run.counter, _ = strconv.Atoi(string(res.GetKvs()[0].GetValue()))
	}
	head := res.GetHeader().GetRevision()
	t.head = head
	replay, err := openStream(t.clients.watch)
	if err != nil {
		return err
	}
	defer replay.close()
	if replay.create(&pb.WatchCreateRequest{
		Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true, StartRevision: from,
	}) == nil {
		return fmt.Errorf("%s: no second watch: %w", t.name, replay.err())
	}
	for _, s := range []*stream{live, replay} {
		if !s.wait(watchLogTimeout, func() bool { return s.lastEvent() >= head }) {
			run.problems = append(run.problems, fmt.Sprintf("a watch stopped at revision %d of %d", s.lastEvent(),
				head))
		}
		if p := s.allProblems(t.name == "headwater"); p != "" {
			run.problems = append(run.problems, p)
		}
	}
	first, second := live.allEvents(), replay.allEvents()
	if what, a, b := diffEvents(&pb.WatchCreateRequest{PrevKv: true}, first, second, 0); what != "" {
		run.problems = append(run.problems, fmt.Sprintf("live watch and replay differ in %s: %s / %s", what, a, b))
	}
	next := from
	for _, ev := range first {
		rev := ev.GetKv().GetModRevision()
		if rev > next {
			run.problems = append(run.problems, fmt.Sprintf("no event has revision %d", next))
		}
		next = rev + 1
		key := string(ev.GetKv().GetKey())
		if key != counterKey {
			run.events[key] = append(run.events[key], eventWithoutRevisions(ev))
		}
	}
	return nil
}

func eventWithoutRevisions(ev *mvccpb.Event) string {
	text := fmt.Sprintf("%s %q version %d lease %d", ev.GetType(), ev.GetKv().GetValue(), ev.GetKv().GetVersion(),
		ev.GetKv().GetLease())
	if p := ev.GetPrevKv(); p != nil {
		text += fmt.Sprintf(", before %q version %d lease %d", p.GetValue(), p.GetVersion(), p.GetLease())
	}
	return text
}

// concurrentClient is one client of a concurrent run.
type concurrentClient struct {
	t    *Target
	id   int64
	rng  *rand.Rand
	mods map[string]int64 // last mod revision seen of each key
	log  []string
}

func (c *concurrentClient) work(steps int) []string {
	for range steps {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		answer, err := c.step(ctx)
		cancel()
		if err != nil {
			answer = failed(err).text()
		}
		c.log = append(c.log, answer)
	}
	return c.log
}

func (c *concurrentClient) key() []byte {
	return fmt.Appendf(nil, "client-%03d/%d", c.id, c.rng.IntN(concurrentKeys))
}

// interval returns the range of all keys of the client.
func (c *concurrentClient) interval() (key, end []byte) {
	key = fmt.Appendf(nil, "client-%03d/", c.id)
	return key, prefixEnd(key)
}

func (c *concurrentClient) step(ctx context.Context) (string, error) {
	kv, lease := c.t.clients.kv, c.t.clients.lease
	switch c.rng.IntN(12) {
	case 0, 1, 2:
		r := &pb.PutRequest{Key: c.key(), Value: fmt.Append(nil, c.rng.IntN(1000)), PrevKv: true}
		if c.rng.IntN(3) == 0 {
			r.Lease = c.id*10 + c.rng.Int64N(2)
		}
		res, err := kv.Put(ctx, r)
		if err == nil {
			c.mods[string(r.Key)] = res.GetHeader().GetRevision()
		}
		return "put " + kvText(res.GetPrevKv()), err
	case 3:
		r := &pb.DeleteRangeRequest{Key: c.key(), PrevKv: true}
		if c.rng.IntN(4) == 0 {
			r.Key, r.RangeEnd = c.interval()
		}
		res, err := kv.DeleteRange(ctx, r)
		return fmt.Sprintf("delete %d %s", res.GetDeleted(), kvsText(res.GetPrevKvs())), err
	case 4, 5:
		r := &pb.RangeRequest{Limit: c.rng.Int64N(4), KeysOnly: c.rng.IntN(3) == 0}
		r.Key, r.RangeEnd = c.interval()
		res, err := kv.Range(ctx, r)
		return fmt.Sprintf("range %d %v %s", res.GetCount(), res.GetMore(), kvsText(res.GetKvs())), err
	case 6, 7, 8:
		return c.swap(ctx)
	case 9:
		res, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: c.id*10 + c.rng.Int64N(2), TTL: ttlMin})
		return fmt.Sprintf("grant %d %d", res.GetID(), res.GetTTL()), err
	case 10:
		_, err := lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: c.id*10 + c.rng.Int64N(2)})
		return "revoke", err
	default:
		return "increment", c.increment(ctx)
	}
}

// swap writes two keys if one of them is still as this client saw it last. It is, unless the client has deleted it
// since.
func (c *concurrentClient) swap(ctx context.Context) (string, error) {
	key := c.key()
	other := c.key()
	r := &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: key, Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: c.mods[string(key)]},
		}},
		Success: []*pb.RequestOp{putOp(&pb.PutRequest{
			Key: key, Value: fmt.Append(nil, c.rng.IntN(1000)), PrevKv: true,
		}), rangeOp(&pb.RangeRequest{Key: key})},
		Failure: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: key})},
	}
	if !bytes.Equal(key, other) {
		r.Success = append(r.Success, deleteOp(&pb.DeleteRangeRequest{Key: other, PrevKv: true}))
	}
	res, err := c.t.clients.kv.Txn(ctx, r)
	if err != nil {
		return "swap", err
	}
	text := fmt.Sprintf("swap %v", res.GetSucceeded())
	if res.GetSucceeded() {
		c.mods[string(key)] = res.GetHeader().GetRevision()
		text += " " + kvsText(res.GetResponses()[1].GetResponseRange().GetKvs())
		if len(res.GetResponses()) > 2 {
			text += " " + kvsText(res.GetResponses()[2].GetResponseDeleteRange().GetPrevKvs())
		}
		return text, nil
	}
	kvs := res.GetResponses()[0].GetResponseRange().GetKvs()
	c.mods[string(key)] = 0
	if len(kvs) == 1 {
		c.mods[string(key)] = kvs[0].GetModRevision()
	}
	return text + " " + kvsText(kvs), nil
}

// increment adds one to the shared counter by compare-and-swap, which it repeats until it succeeds.
func (c *concurrentClient) increment(ctx context.Context) error {
	value, mod := 0, int64(0)
	for range counterTriesMax {
		res, err := c.t.clients.kv.Txn(ctx, &pb.TxnRequest{
			Compare: []*pb.Compare{{
				Key: []byte(counterKey), Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: mod},
			}},
			Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: []byte(counterKey), Value: fmt.Append(nil, value+1)})},
			Failure: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: []byte(counterKey)})},
		})
		if err != nil {
			return err
		}
		if res.GetSucceeded() {
			return nil
		}
		kvs := res.GetResponses()[0].GetResponseRange().GetKvs()
		if len(kvs) != 1 {
			return fmt.Errorf("the counter is gone: %v", res)
		}
		mod = kvs[0].GetModRevision()
		if value, err = strconv.Atoi(string(kvs[0].GetValue())); err != nil {
			return err
		}
	}
	return fmt.Errorf("no increment in %d tries", counterTriesMax)
}

func kvText(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return "-"
	}
	return fmt.Sprintf("%q=%q version %d lease %d", kv.GetKey(), kv.GetValue(), kv.GetVersion(), kv.GetLease())
}

func kvsText(kvs []*mvccpb.KeyValue) string {
	var b bytes.Buffer
	for _, kv := range kvs {
		b.WriteString("[" + kvText(kv) + "]")
	}
	return b.String()
}
