package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/client"
)

const (
	// revisionOffset is how far from the newest revision short watches start, before and after it.
	revisionOffset = 100
	shortWatchMin  = 100 * time.Millisecond
	shortWatchMax  = 1200 * time.Millisecond
	longWatchMax   = 8 * time.Second
	// progressPeriod is how often a watching client asks for progress.
	progressPeriod = 100 * time.Millisecond
)

// shortWatchLoop makes watches that start in the past or the future, of the whole prefix or of one key.
func (r *Run) shortWatchLoop(ctx context.Context, c *client.RecordingClient, rnd *rand.Rand) {
	for ctx.Err() == nil && r.lim.Wait(ctx) == nil {
		getCtx, cancel := context.WithTimeout(ctx, requestTimeout)
		resp, err := c.Get(getCtx, r.prefix())
		cancel()
		if err != nil {
			continue
		}
		rev := max(1, resp.Header.GetRevision()+between[int64](rnd, -revisionOffset, revisionOffset/4))
		watch(ctx, c, watchSpec{
			key:      r.watchKey(rnd),
			rev:      rev,
			prevKV:   rnd.IntN(2) == 0,
			progress: rnd.IntN(2) == 0,
			life:     between(rnd, shortWatchMin, shortWatchMax),
		})
	}
}

// longWatchLoop makes watches that start now and live through restarts: clientv3 resumes them by itself.
func (r *Run) longWatchLoop(ctx context.Context, c *client.RecordingClient, rnd *rand.Rand) {
	for ctx.Err() == nil {
		// The longer watch shares the stream with a shorter one, so that progress requests meet both.
		var second sync.WaitGroup
		if rnd.IntN(2) == 0 {
			spec := watchSpec{key: r.watchKey(rnd), prevKV: true, life: between(rnd, shortWatchMin, shortWatchMax)}
			second.Go(func() { watch(ctx, c, spec) })
		}
		watch(ctx, c, watchSpec{
			key:      r.prefix(),
			prevKV:   true,
			progress: true,
			life:     between(rnd, longWatchMax/4, longWatchMax),
		})
		second.Wait()
	}
}

// watchKey is the profile's prefix, mostly; else the prefix that one key's name is.
func (r *Run) watchKey(rnd *rand.Rand) string {
	if rnd.IntN(4) != 0 {
		return r.prefix()
	}
	if r.cfg.Profile == Kubernetes {
		if key, _ := r.objs.pick(rnd); key != "" {
			return key
		}
		return r.prefix()
	}
	return r.keys.any(rnd)
}

type watchSpec struct {
	key              string
	rev              int64
	prevKV, progress bool
	life             time.Duration
}

// watch runs one watch until its life ends, the server cancels it (its start is compacted) or ctx ends; it asks
// for progress all the while.
func watch(ctx context.Context, c *client.RecordingClient, s watchSpec) {
	ctx, cancel := context.WithTimeout(ctx, s.life)
	defer cancel()
	ticker := time.NewTicker(progressPeriod)
	defer ticker.Stop()
	ch := c.Watch(ctx, s.key, s.rev, true, s.progress, s.prevKV)
	for {
		select {
		case <-ticker.C:
			// It fails only when ctx or the client ends, and then ch is closed too.
			_ = c.RequestProgress(ctx)
		case _, ok := <-ch:
			if !ok {
				return
			}
		}
	}
}

// Recorder collects every event from revision 2 on with prev_kv, over all restarts, by a client of its own: the
// log of the run as a watcher sees it. Its watches are judged like the others.
type Recorder struct {
	c      *client.RecordingClient
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	events []*clientv3.Event
	rev    int64
	err    error
	grown  chan struct{} // closed and replaced when rev or err changes
}

func startRecorder(ctx context.Context, c *client.RecordingClient) *Recorder {
	// It outlives the traffic: wait needs it until the last write.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Recorder{c: c, cancel: cancel, rev: 1, done: make(chan struct{}), grown: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.run(ctx)
	}()
	return r
}

func (r *Recorder) run(ctx context.Context) {
	for ctx.Err() == nil {
		for resp := range r.c.Watch(ctx, "", r.revision()+1, true, true, true) {
			if err := resp.Err(); err != nil && ctx.Err() == nil {
				r.add(nil, fmt.Errorf("load: the recorder's watch: %w (compact revision %d)", err, resp.CompactRevision))
				return
			}
			r.add(resp.Events, nil)
		}
	}
}

func (r *Recorder) add(events []*clientv3.Event, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, events...)
	if n := len(events); n > 0 {
		r.rev = events[n-1].Kv.ModRevision
	}
	r.err = err
	close(r.grown)
	r.grown = make(chan struct{})
}

// revision is the newest revision seen.
func (r *Recorder) revision() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rev
}

// wait returns the events when the one at revision last is among them.
func (r *Recorder) wait(ctx context.Context, last int64) ([]*clientv3.Event, error) {
	for {
		r.mu.Lock()
		events, rev, err, grown := r.events, r.rev, r.err, r.grown
		r.mu.Unlock()
		if err != nil || rev >= last {
			return events, err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return events, fmt.Errorf("load: the recorder is at revision %d, not yet at %d: %w", rev, last, ctx.Err())
		}
	}
}

func (r *Recorder) close() {
	r.cancel()
	<-r.done
}
