package formats

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/tests/internal/check"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/inproc"
	"github.com/headwaterdb/headwater/tests/internal/load"
)

const (
	// between is how many requests succeed between two steps of a roll-out.
	between = 600
	// linearizationTimeout bounds porcupine's search.
	linearizationTimeout = 3 * time.Minute
)

// roll is a roll-out under load.
type roll struct {
	*deployment
	oldProgram, newProgram string
	run                    *load.Run
}

// TestRollOut: pods of the previous release and of this one serve the same clients. A pod is replaced by one of the
// other release, then back, and again. Then a new pod activates new features while old pods are at work, which from
// then on answer nothing. At last the remaining old pod is replaced. The judges find nothing lost, repeated or
// reordered.
func TestRollOut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	// Groups may begin on recent states, which may be outdated, as on FoundationDB. That includes groups of old
	// pods at the time of activation.
	f := faults.New(testengine.KeepOpen(testengine.Open(t, seed)), faults.Options{Seed: seed, Recent: true})
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	oldProgram, newProgram := oldPods(t), newPods(t)
	nats := hw.Run(t, hw.NATS(t), t.TempDir())
	names := []string{"a", "b", "c"}
	r := &roll{
		deployment: deploy(t, f, names, "--nats-url=nats://"+nats.Endpoint(), "--watch-progress-notify-interval=200ms"),
		oldProgram: oldProgram, newProgram: newProgram,
	}
	a, b := r.process("a", r.oldProgram), r.process("b", r.oldProgram)
	start(t, a)
	start(t, b)
	var err error
	cfg := load.Config{
		Endpoints: []string{a.Endpoint(), b.Endpoint()}, Failover: true, Profile: load.KeyValue, Seed: seed,
		Clients: 6, Watchers: 6, Rate: 600, Compact: true, Sparse: true, LargeBytes: 150_000,
	}
	if r.run, err = load.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	h, err := r.steps(a, b)
	if err != nil {
		t.Error(err)
	}
	r.judge(h)
}

// steps performs the roll-out and ends the load. a and b run the previous release.
func (r *roll) steps(a, b *hw.Server) (load.History, error) {
	r.t.Helper()
	r.goOn("two of the previous release")
	next := r.replace(b, r.newProgram)
	r.goOn("one of either")
	back := r.replace(next, r.oldProgram)
	r.goOn("rolled back")
	r.wantFormat(engine.StampLen)
	next = r.replace(back, r.newProgram)
	r.goOn("one of either, again")
	begin := time.Now()
	c := start(r.t, r.process("c", r.newProgram, "--activate-features=all"))
	r.t.Logf("a pod that activates features is ready after %v", time.Since(begin).Round(time.Millisecond))
	r.wantDeaf(a)
	r.goOn("activated, with one of the previous release that answers nothing")
	r.wantDeaf(a)
	said := r.refused()
	if !strings.Contains(said, "format 2") || !strings.Contains(said, "knows 1") {
		r.t.Errorf("a pod of the previous release that starts reports %q", said)
	}
	r.replace(a, r.newProgram)
	r.goOn("all of this release")
	for until := time.Now(); r.run.GoesOn(until); {
		r.goOn("until everything has been met")
	}
	h, err := r.run.Stop(r.t.Context())
	r.t.Logf("%d answered, %d failed", h.Acked, h.Failed)
	for _, s := range []*hw.Server{c, next} {
		if err := s.Stop(); err != nil {
			r.t.Error(err)
		}
	}
	return h, err
}

// goOn waits until more requests have succeeded.
func (r *roll) goOn(what string) {
	r.t.Helper()
	begin := time.Now()
	if err := r.run.Progress(r.t.Context(), between); err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
	r.t.Logf("%s: %v", what, time.Since(begin).Round(time.Millisecond))
}

// replace stops a process and starts one with another program in its place.
func (r *roll) replace(s *hw.Server, program string) *hw.Server {
	r.t.Helper()
	begin := time.Now()
	if err := s.Stop(); err != nil {
		r.t.Error(err)
	}
	stopped := time.Now()
	defer func() {
		took := time.Since(stopped).Round(time.Millisecond)
		r.t.Logf("stopped in %v, started in %v", stopped.Sub(begin).Round(time.Millisecond), took)
	}()
	return start(r.t, s.With(r.t, program))
}

// prefix returns the prefix of the keyspace's rows.
func (r *roll) prefix() []byte {
	r.t.Helper()
	k, err := keyspace.Open(r.t.Context(), r.engine, []byte(config.DefaultRoot), config.DefaultKeyspace)
	if err != nil {
		r.t.Fatal(err)
	}
	return k.Prefix
}

// wantFormat checks the length of the head row.
func (r *roll) wantFormat(head int) {
	r.t.Helper()
	n, err := rowsOf(r.t.Context(), r.engine, r.prefix(), 'd', func(_, value []byte) bool { return len(value) == head })
	if err != nil || n != 1 {
		r.t.Errorf("%d heads of %d bytes, %v", n, head, err)
	}
}

// refused starts a process of the previous release, which has to end by itself, and returns what it says.
func (r *roll) refused() string {
	r.t.Helper()
	return refusal(r.t, r.oldProgram, r.args("d")(hw.Layout{ClientURL: "http://127.0.0.1:0"})...)
}

// wantDeaf sends a process every request that it could answer from the store. All must fail. (Requests that its pods
// relay to pods of this release may be answered.)
func (r *roll) wantDeaf(s *hw.Server) {
	r.t.Helper()
	c := client(r.t, s.Endpoint())
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	kv, maintenance := pb.NewKVClient(c.ActiveConnection()), pb.NewMaintenanceClient(c.ActiveConnection())
	key, all := []byte("key"), []byte{0}
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: key}}}
	for what, call := range map[string]func() (any, error){
		"get":   func() (any, error) { return kv.Range(ctx, &pb.RangeRequest{Key: key}) },
		"list":  func() (any, error) { return kv.Range(ctx, &pb.RangeRequest{Key: all, RangeEnd: all}) },
		"count": func() (any, error) { return kv.Range(ctx, &pb.RangeRequest{Key: all, RangeEnd: all, CountOnly: true}) },
		"old list": func() (any, error) {
			return kv.Range(ctx, &pb.RangeRequest{Key: all, RangeEnd: all, Revision: 1 << 30})
		},
		"serializable": func() (any, error) { return kv.Range(ctx, &pb.RangeRequest{Key: key, Serializable: true}) },
		"put":          func() (any, error) { return kv.Put(ctx, &pb.PutRequest{Key: key, Value: key}) },
		"delete":       func() (any, error) { return kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: all, RangeEnd: all}) },
		"txn":          func() (any, error) { return kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{put}}) },
		"empty txn":    func() (any, error) { return kv.Txn(ctx, &pb.TxnRequest{}) },
		"compact":      func() (any, error) { return kv.Compact(ctx, &pb.CompactionRequest{Revision: 1}) },
		"hash":         func() (any, error) { return maintenance.HashKV(ctx, &pb.HashKVRequest{}) },
		"status":       func() (any, error) { return maintenance.Status(ctx, &pb.StatusRequest{}) },
	} {
		for range 3 {
			if resp, err := call(); err == nil {
				r.t.Errorf("a pod of the previous release answers %s after the activation: %v", what, resp)
			}
		}
	}
}

// judge compares what clients saw with the log.
func (r *roll) judge(h load.History) {
	t := r.t
	t.Helper()
	store, err := mvcc.Open(t.Context(), r.engine, mvcc.Options{Prefix: r.prefix(), NoRemoval: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if got := store.Features(); got != mvcc.FeaturesAll&^mvcc.FeatureSizes {
		t.Errorf("features %v", got)
	}
	log, err := inproc.ReadLog(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	hist := check.History{History: h}
	if hist.Log, err = check.Complete(h.Events, log); err != nil {
		t.Fatal(err)
	}
	res, err := check.Run(zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)), check.Ranks(hist), linearizationTimeout)
	if err != nil {
		t.Error(err)
	}
	c := res.Coverage
	t.Logf("%+v", c)
	if c.OldReads == 0 || c.Serializable == 0 || c.Resumable == 0 || c.Creates == 0 || c.Prev == 0 || c.Several == 0 ||
		c.Compactions == 0 || c.Leases == 0 {
		t.Errorf("the traffic lacks something that is to be judged: %+v", c)
	}
}
