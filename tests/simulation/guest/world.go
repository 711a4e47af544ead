//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/tests/internal/memory"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"
)

// plan is what a run is asked to be.
type plan struct {
	seed                      uint64
	duration, idle            time.Duration
	faultsMax                 int
	clients, watchers, leases int
	users, limited, counts    int
	backups, archive, moves   bool
	old, setback, disks, calm bool
	limits                    string // by name, with commas between; "": all
	only                      string // faults, with commas between; "": as the seed says
}

const (
	engineRoot   = "headwater"
	keyspaceName = "default"
	diskDir      = "disk"
	// outside is where clients are.
	outside = "clients"
	// startTimeout is how long a pod may take to start; its attempts may meet faults and be repeated, as an
	// orchestrator does.
	startTimeout = time.Minute
	startPause   = 50 * time.Millisecond
)

// kinds are those of pods, in a fixed order: a map would be in the seed too, but not in the same order for a shrunk
// run.
var kinds = []config.Kind{config.KV, config.WatchHub, config.LeaseKeeper}

// world is a deployment, all that is around it, and what is known about it.
type world struct {
	plan
	began time.Time
	seen  seen
	log   *slog.Logger

	db   *memory.Store
	sky  *sky
	days faults.Options // of each pod's view of the database
	slow time.Duration  // of the network

	pods  []*pod
	links map[[2]string]*link // by from and to
	c     choices

	calmed   atomic.Bool // all faults are over
	activate atomic.Bool // kv pods that start activate all features

	mu     sync.Mutex
	failed []error // of pods
}

// choices are options of the deployment that the seed draws.
type choices struct {
	per        int // pods of each kind that there are from the beginning
	places     int // of pods of each kind; the last may stay empty, and a pod come later
	lanes      int
	progress   time.Duration // of watches
	connAge    time.Duration // 0: none
	txnLatency time.Duration // the most that a round trip to the database takes
	idle       time.Duration // after which a keyspace is closed
	join       bool          // groups of several keyspaces are committed together
	tokenTTL   time.Duration // of users
	history    int64         // bytes of events that a hub keeps; 0: its default
	keyspaces  []string      // the first is that of the pods
	traffic    string        // the keyspace of the clients that read, write and watch
	counted    string        // that of the clients that count; leases are in the others
}

func newWorld(p plan) *world {
	w := &world{plan: p, began: time.Now(), links: make(map[[2]string]*link), db: memory.New()}
	w.log = slog.New(newPodLog(os.Stderr, &w.seen))
	r := w.rand("choices")
	w.c = choices{
		per: 1 + r.IntN(2), lanes: 1 + r.IntN(4), progress: time.Duration(100+r.IntN(900)) * time.Millisecond,
		txnLatency: time.Duration(r.IntN(4000)) * time.Microsecond,
	}
	w.c.places = w.c.per + r.IntN(2)
	if r.IntN(3) == 0 {
		w.c.connAge = time.Duration(1+r.IntN(4)) * time.Second
	}
	w.drawOptions()
	w.c.keyspaces = []string{keyspaceName, "a", "b"}[:2+r.IntN(2)]
	w.c.traffic = w.c.keyspaces[r.IntN(len(w.c.keyspaces))]
	if p.disks && w.rand("traffic").IntN(2) == 0 { // only the history of the pods' own keyspace is on disks
		w.c.traffic = keyspaceName
	}
	// Only the pods' own keyspace has a tailer.
	if w.c.counted = countedKeyspace; len(w.c.keyspaces) > 2 && w.c.traffic != keyspaceName {
		w.c.counted = keyspaceName
	}
	if p.old { // what is written is in the keyspace that an earlier release has made
		w.c.keyspaces = []string{keyspaceName, "a", "b"}
		if w.c.traffic, w.c.counted = keyspaceName, countedKeyspace; p.clients == 0 {
			w.c.traffic, w.c.counted = "a", keyspaceName
		}
	}
	delay := faults.Delay{Fixed: 100 * time.Microsecond, Random: w.c.txnLatency + time.Microsecond}
	w.days = faults.Options{Recent: r.IntN(2) == 0, Remote: &faults.Remote{Latency: faults.Everywhere(delay)}}
	now := still
	if !p.calm {
		w.days.Conflict = r.Float64() * 0.06
		w.days.UnknownLost, w.days.UnknownCommitted = r.Float64()*0.04, r.Float64()*0.04
		w.days.TooOld, w.days.Unavailable = r.Float64()*0.002, r.Float64()*0.0004
		now = fair
	}
	if p.setback {
		w.db.Advance(firstVersion)
	}
	w.sky = newSky(&w.seen, w.rand("bus"), now)
	return w
}

// drawOptions draws options of the pods: mostly their defaults, and now and then so little that what hardly ever
// happens happens all the time.
func (w *world) drawOptions() {
	r, d := w.rand("options"), config.Default(config.KV)
	w.c.idle, w.c.tokenTTL = d.KeyspaceIdle, d.AuthTokenTTL
	w.c.join = r.IntN(4) == 0
	if r.IntN(3) == 0 {
		w.c.idle = between(r, time.Second, 5*time.Second)
	}
	if r.IntN(3) == 0 {
		w.c.tokenTTL = between(r, time.Second, 5*time.Second)
	}
	if r.IntN(3) == 0 {
		w.c.history = 16<<10 + r.Int64N(100<<10)
	}
	if w.plan.disks && r.IntN(4) > 0 { // what is older is on the disk
		w.c.history = 512 + r.Int64N(6<<10)
	}
}

// rand is a source of choices for one purpose: purposes do not disturb each other when a run is shrunk.
func (w *world) rand(purpose string) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s", w.seed, purpose)
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

// between is a random time.
func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	return lo + time.Duration(r.Int64N(int64(hi-lo)))
}

// build makes the places of all pods and the ways between them.
func (w *world) build() error {
	for _, k := range kinds {
		for i := range w.c.places {
			p := &pod{w: w, kind: k, name: fmt.Sprintf("%s-%d", short[k], i)}
			p.clock.began, p.clock.rate = w.began, 1+driftMax*(2*w.rand("clock of "+p.name).Float64()-1)
			p.disk = w.newDisk(p)
			w.pods = append(w.pods, p)
		}
	}
	for _, to := range w.pods {
		for _, from := range append(w.names(), outside, "peers") {
			if from == to.name {
				continue
			}
			k, err := w.newLink(from, to.name)
			if err != nil {
				return err
			}
			w.links[[2]string{from, to.name}] = k
		}
	}
	return nil
}

var short = map[config.Kind]string{config.KV: "kv", config.WatchHub: "hub", config.LeaseKeeper: "keeper"}

func (w *world) names() (names []string) {
	for _, p := range w.pods {
		names = append(names, p.name)
	}
	return names
}

// of are the pods of some kinds.
func (w *world) of(kinds ...config.Kind) (some []*pod) {
	for _, k := range kinds {
		for _, p := range w.pods {
			if p.kind == k {
				some = append(some, p)
			}
		}
	}
	return some
}

// addrs are where a place finds pods.
func (w *world) addrs(from string, pods []*pod) (addrs []string) {
	for _, p := range pods {
		if from != p.name {
			addrs = append(addrs, w.links[[2]string{from, p.name}].addr())
		}
	}
	return addrs
}

// linksOf are all ways to and from a pod, in a fixed order.
func (w *world) linksOf(name string) (some []*link) {
	for _, to := range w.pods {
		for _, from := range append(w.names(), outside, "peers") {
			if k := w.links[[2]string{from, to.name}]; k != nil && (from == name || to.name == name) {
				some = append(some, k)
			}
		}
	}
	return some
}

// start starts the pods of some kinds that are there from the beginning.
func (w *world) start(ctx context.Context, some ...config.Kind) error {
	var all []*pod
	for _, k := range some {
		all = append(all, w.of(k)[:w.c.per]...)
	}
	errs := make(chan error, len(all))
	for _, p := range all {
		go func() { errs <- p.start(ctx) }()
	}
	var err error
	for range all {
		err = errors.Join(err, <-errs)
	}
	return err
}

// in is a context of calls in a keyspace.
func in(ctx context.Context, name string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, compose.KeyspaceMetadata, name)
}

// client is a real client with these addresses.
func (w *world) client(addrs ...string) (*clientv3.Client, error) {
	return clientv3.New(w.clientConfig(addrs...))
}

func (w *world) clientConfig(addrs ...string) clientv3.Config {
	return clientv3.Config{Endpoints: addrs, Logger: zap.NewNop()}
}

// fail notes that a pod has failed in a way that no fault excuses.
func (w *world) fail(err error) {
	w.tracef("judge", "%v", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = append(w.failed, err)
}
