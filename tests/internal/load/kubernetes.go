package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/tests/v3/robustness/client"
)

const (
	objectPrefix = "/registry/pods/"

	objectsWanted = 12 // clients delete objects if there are more, and create some if there are fewer
	pageLimit     = 5
	// cacheWatch is how long the watch after a list goes on. An apiserver's cache watches in the same way after it
	// has listed again.
	cacheWatch = 400 * time.Millisecond
)

var errNothingKnown = errors.New("load: no object known")

// objects is what the clients of the Kubernetes profile believe to exist, from lists and watches: key and mod revision.
type objects struct {
	mu   sync.Mutex
	rev  int64
	mods map[string]int64
	next int
}

func newObjects() *objects { return &objects{mods: map[string]int64{}} }

func (o *objects) fresh() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next++
	return fmt.Sprintf("%sdefault/pod-%04d", objectPrefix, o.next)
}

func (o *objects) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.mods)
}

// pick returns a random object; 0 is the revision of none.
func (o *objects) pick(rnd *rand.Rand) (key string, mod int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.mods) == 0 {
		return "", 0
	}
	n := rnd.IntN(len(o.mods))
	for key, mod = range o.mods {
		if n--; n < 0 {
			break
		}
	}
	return key, mod
}

func (o *objects) listed(rev int64, kvs []*mvccpb.KeyValue) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if rev <= o.rev {
		return
	}
	o.rev = rev
	clear(o.mods)
	for _, kv := range kvs {
		o.mods[string(kv.Key)] = kv.ModRevision
	}
}

func (o *objects) watched(resp clientv3.WatchResponse) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range resp.Events {
		if e.Kv.ModRevision <= o.rev {
			continue
		}
		o.rev = e.Kv.ModRevision
		if e.Type == mvccpb.Event_DELETE {
			delete(o.mods, string(e.Kv.Key))
		} else {
			o.mods[string(e.Kv.Key)] = e.Kv.ModRevision
		}
	}
}

// kubernetesClient is one apiserver's use of etcd.
type kubernetesClient struct {
	*link
	rnd *rand.Rand
}

func (k *kubernetesClient) kc() kubernetes.Interface {
	return kubernetes.Client{Client: &clientv3.Client{KV: k.c}}
}

func (r *Run) kubernetesLoop(ctx context.Context, l *link, rnd *rand.Rand) {
	k := &kubernetesClient{link: l, rnd: rnd}
	var caches sync.WaitGroup
	defer caches.Wait()
	ok := false // so that the first request is a list
	for ctx.Err() == nil && r.lim.Wait(ctx) == nil {
		var err error
		switch n := rnd.IntN(100); {
		case !ok || n < 6:
			var rev int64
			if rev, err = k.list(ctx, 0); err == nil {
				c := k.c // done may replace it
				caches.Go(func() { k.watch(ctx, c, rev+1) })
			}
		case n < 12:
			_, mod := k.objs.pick(rnd)
			_, err = k.list(ctx, mod)
		case n < 30:
			err = k.get(ctx)
		default:
			err = k.write(ctx)
		}
		if !errors.Is(err, errNothingKnown) {
			ok = k.done(err)
		}
	}
}

// timeout returns the context for one request. The end of the run does not cancel it; see keyValueLoop.
func (k *kubernetesClient) timeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
}

func (k *kubernetesClient) get(ctx context.Context) error {
	ctx, cancel := k.timeout(ctx)
	defer cancel()
	key, _ := k.objs.pick(k.rnd)
	if key == "" {
		return errNothingKnown
	}
	var rev int64
	if k.rnd.IntN(3) == 0 { // as a client's resourceVersion match does
		_, rev = k.objs.pick(k.rnd)
	}
	_, err := k.kc().Get(ctx, key, kubernetes.GetOptions{Revision: rev})
	return err
}

// list reads all objects in pages at one revision, the newest if rev is 0.
func (k *kubernetesClient) list(ctx context.Context, rev int64) (int64, error) {
	var kvs []*mvccpb.KeyValue
	var from string
	for {
		pageCtx, cancel := k.timeout(ctx)
		resp, err := k.kc().List(pageCtx, objectPrefix,
			kubernetes.ListOptions{Continue: from, Revision: rev, Limit: pageLimit})
		cancel()
		if err != nil {
			return 0, err
		}
		if rev == 0 {
			rev = resp.Revision
		}
		kvs = append(kvs, resp.Kvs...)
		if resp.Count <= int64(len(resp.Kvs)) {
			break
		}
		from = string(kvs[len(kvs)-1].Key) + "\x00"
	}
	k.objs.listed(rev, kvs)
	return rev, nil
}

func (k *kubernetesClient) watch(ctx context.Context, c *client.RecordingClient, rev int64) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), cacheWatch)
	defer cancel()
	for resp := range c.Watch(ctx, objectPrefix, rev, true, true, true) {
		k.objs.watched(resp)
	}
}

func (k *kubernetesClient) write(ctx context.Context) error {
	ctx, cancel := k.timeout(ctx)
	defer cancel()
	count := k.objs.count()
	key, mod := k.objs.pick(k.rnd)
	n := k.rnd.IntN(100)
	if count > objectsWanted*3/2 {
		n = 0
	}
	value := strconv.Itoa(k.ids.NewRequestID())
	switch {
	case count < objectsWanted/2 || n >= 90:
		_, err := k.kc().OptimisticPut(ctx, k.objs.fresh(), []byte(value), 0, kubernetes.PutOptions{})
		return err
	case key == "":
		return errNothingKnown
	case n < 12:
		if done, ok := k.takeDelete(); ok {
			defer done()
			_, err := k.kc().OptimisticDelete(ctx, key, mod, kubernetes.DeleteOptions{GetOnFailure: true})
			return err
		}
	}
	_, err := k.kc().OptimisticPut(ctx, key, []byte(value), mod, kubernetes.PutOptions{GetOnFailure: true})
	return err
}
