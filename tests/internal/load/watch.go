package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/client"
)

const (
	// pastRevisions and futureRevisions are how far from the newest revision short watches start.
	pastRevisions   = 100
	futureRevisions = 25

	shortWatchMin = 100 * time.Millisecond
	shortWatchMax = 1200 * time.Millisecond
	longWatchMax  = 8 * time.Second
	// bookmarkedEvents is how many events a watch must have before a bookmark, so that Complete counts it. Then a
	// test can remove some of the events, and the others still show the loss.
	bookmarkedEvents = 3
	// progressPeriod is how often a watching client asks for progress.
	progressPeriod = 100 * time.Millisecond
)

// shortWatchLoop makes watches that start in the past or the future, of the whole prefix or of one key.
func (r *Run) shortWatchLoop(ctx context.Context, c *client.RecordingClient, rnd *rand.Rand) {
	for ctx.Err() == nil && r.lim.Wait(ctx) == nil {
		rev := r.recorder.recent(rnd, pastRevisions)
		if rnd.IntN(4) == 0 {
			rev = r.recorder.revision() + between[int64](rnd, 1, futureRevisions)
		}
		r.watchOnce(ctx, c, watchSpec{
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
		// The longer watch shares the stream with a shorter one, so that progress requests concern both.
		var second sync.WaitGroup
		if rnd.IntN(2) == 0 {
			spec := watchSpec{key: r.watchKey(rnd), prevKV: true, life: between(rnd, shortWatchMin, shortWatchMax)}
			second.Go(func() { r.watchOnce(ctx, c, spec) })
		}
		r.watchOnce(ctx, c, watchSpec{
			key:      r.prefix(),
			prevKV:   true,
			progress: true,
			life:     between(rnd, longWatchMax/4, longWatchMax),
		})
		second.Wait()
	}
}

// watchKey mostly returns the profile's prefix, and else a key's name, which is watched as a prefix too.
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

// watchOnce runs one watch until its life ends, the server cancels it (its start is compacted) or ctx ends; it asks
// for progress all the while.
func (r *Run) watchOnce(ctx context.Context, c *client.RecordingClient, s watchSpec) {
	ctx, cancel := context.WithTimeout(ctx, s.life)
	defer cancel()
	ticker := time.NewTicker(progressPeriod)
	defer ticker.Stop()
	ch := c.Watch(ctx, s.key, s.rev, true, s.progress, s.prevKV)
	events := 0
	for {
		select {
		case <-ticker.C:
			// RequestProgress fails only when ctx or the client ends, and then ch is closed too.
			_ = c.RequestProgress(ctx)
		case resp, ok := <-ch:
			if !ok {
				return
			}
			events += len(resp.Events)
			if s.rev != 0 && events >= bookmarkedEvents && resp.IsProgressNotify() {
				r.bookmarked.Store(true)
			}
		}
	}
}

// Recorder collects every event from revision 2 on with prev_kv, over all restarts, through a client of its own. So it
// has the log of the run as a watcher sees it. Its watches are judged like all others.
type Recorder struct {
	c      *client.RecordingClient
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	events []*clientv3.Event
	revs   []int64 // of the events
	err    error
	grown  chan struct{} // closed and replaced when revs or err changes
}

func startRecorder(ctx context.Context, c *client.RecordingClient) *Recorder {
	// Its context is not that of the traffic, because wait needs it until the last write.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Recorder{c: c, cancel: cancel, revs: []int64{1}, done: make(chan struct{}), grown: make(chan struct{})}
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
				r.add(nil, fmt.Errorf("load: the recorder's watch: %w (compact revision %d)", err,
					resp.CompactRevision))
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
	for _, e := range events {
		if rev := e.Kv.ModRevision; rev != r.revs[len(r.revs)-1] {
			r.revs = append(r.revs, rev)
		}
	}
	r.err = err
	close(r.grown)
	r.grown = make(chan struct{})
}

// revision is the newest revision seen.
func (r *Recorder) revision() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revs[len(r.revs)-1]
}

// recent returns one of the newest n revisions seen.
func (r *Recorder) recent(rnd *rand.Rand, n int) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revs[len(r.revs)-1-rnd.IntN(min(n, len(r.revs)))]
}

// after returns a random one of the revisions seen after rev, or false if there are none.
func (r *Recorder) after(rnd *rand.Rand, rev int64) (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, _ := slices.BinarySearch(r.revs, rev+1)
	if i == len(r.revs) {
		return 0, false
	}
	return r.revs[i+rnd.IntN(len(r.revs)-i)], true
}

// wait returns the events when the one at revision last is among them.
func (r *Recorder) wait(ctx context.Context, last int64) ([]*clientv3.Event, error) {
	for {
		r.mu.Lock()
		events, rev, err, grown := r.events, r.revs[len(r.revs)-1], r.err, r.grown
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
