package watchload

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	// progressTimeout ends a run that has waited for that long without any progress.
	progressTimeout = 60 * time.Second
	pollInterval    = time.Millisecond

	// Histograms: 1 µs steps from 1 µs to 5 minutes, three significant digits.
	latencyMin    = 1
	latencyMax    = int64(5 * time.Minute / time.Microsecond)
	latencyDigits = 3
)

// epoch is what stamps count from.
var epoch = time.Now()

func now() int64 { return int64(time.Since(epoch)) }

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(latencyMin, latencyMax, latencyDigits)
}

func record(h *hdrhistogram.Histogram, nanos int64) {
	_ = h.RecordValue(min(max(nanos/int64(time.Microsecond), latencyMin), latencyMax)) // cannot fail within the range
}

// watchSpec says what the watches of a group watch. Watch i is watch i%perStream of stream i/perStream; streams share
// the connections round-robin.
type watchSpec struct {
	streams, perStream int
	interval           func(i int) (key, end string)
	prevKV             bool
	startRev           int64
	// contiguous: every write that is made while the group is open matches every watch, so revisions follow each
	// other without a gap.
	contiguous bool
	// stalled: a stream reads that its watches were created and nothing after that.
	stalled bool
	// want, if not nil, returns how many events watch i must see. group.live counts the watches that have seen that
	// many.
	want func(i int) int64
}

// group is a set of open watch streams. It checks each event as it comes.
type group struct {
	spec    watchSpec
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	streams []*watchStream
	from    atomic.Int64 // events of puts sent from here on have their latency recorded
	created atomic.Int64
	lastAt  atomic.Int64 // when the last watch was created
	live    atomic.Int64
	failed  atomic.Pointer[error]
}

// watchStream is one stream and its watches. All but arrived belongs to the goroutine that receives, until group.close.
type watchStream struct {
	g       *group
	first   int // number of its first watch
	watches []watchState
	arrived atomic.Int64
	resp    watchResponse
	hist    *hdrhistogram.Histogram // nil until there is an event
}

// watchState is what is known of one watch.
type watchState struct {
	rev     int64 // of the last event, or the one before the first to come
	events  int64
	created bool
	liveAt  int64 // when it had seen all the events that it must see
}

// openGroup opens the streams, all at once, and sends the requests to create their watches. It returns when all
// requests are sent, which is before all watches are created; see awaitCreated. Close the group unless openGroup
// returns an error.
func openGroup(ctx context.Context, conns []*grpc.ClientConn, spec watchSpec) (*group, error) {
	ctx, cancel := context.WithCancel(ctx)
	g := &group{spec: spec, cancel: cancel}
	g.from.Store(math.MaxInt64)
	var sending sync.WaitGroup
	for i := range spec.streams {
		s := &watchStream{g: g, first: i * spec.perStream, watches: make([]watchState, spec.perStream)}
		g.streams = append(g.streams, s)
		sending.Go(func() {
			if err := s.open(ctx, conns[i%len(conns)]); err != nil {
				g.fail(fmt.Errorf("watch stream %d: %w", i, err))
			}
		})
	}
	sending.Wait()
	if err := g.err(); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// open starts the receiver and sends the create requests.
func (s *watchStream) open(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, methodWatch)
	if err != nil {
		return err
	}
	s.g.wg.Go(func() {
		if err := s.receive(stream); err != nil && ctx.Err() == nil {
			s.g.fail(err)
		}
	})
	for i := range s.watches {
		key, end := s.g.spec.interval(s.first + i)
		req := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte(key), RangeEnd: []byte(end), PrevKv: s.g.spec.prevKV, StartRevision: s.g.spec.startRev,
		}}}
		if err := stream.SendMsg(req); err != nil {
			return err
		}
	}
	return nil
}

// receive reads until the stream ends, or, if it is to stall, until its watches are created.
func (s *watchStream) receive(stream grpc.ClientStream) error {
	for created := 0; !s.g.spec.stalled || created < len(s.watches); {
		if err := stream.RecvMsg(&s.resp); err != nil {
			return err
		}
		if s.resp.created {
			created++
		}
		if err := s.take(now()); err != nil {
			return err
		}
	}
	return nil
}

// take checks and counts the response in s.resp.
func (s *watchStream) take(at int64) error {
	r := &s.resp
	if r.id < 0 || r.id >= int64(len(s.watches)) {
		return fmt.Errorf("a response for watch %d of a stream of %d", r.id, len(s.watches))
	}
	w := &s.watches[r.id]
	switch {
	case r.canceled:
		return fmt.Errorf("watch %d was cancelled: %q, compacted at %d", s.first+int(r.id), r.reason, r.compactRevision)
	case r.created && w.created:
		return fmt.Errorf("watch %d was created twice", s.first+int(r.id))
	case r.created:
		w.created, w.rev = true, r.revision
		if s.g.spec.startRev > 0 {
			w.rev = s.g.spec.startRev - 1
		}
		s.g.lastAt.Store(at)
		s.g.created.Add(1)
	case !w.created:
		return fmt.Errorf("events for watch %d, which was not created", s.first+int(r.id))
	}
	for i := range r.events {
		if err := s.event(w, &r.events[i], at); err != nil {
			return fmt.Errorf("watch %d: %w", s.first+int(r.id), err)
		}
	}
	s.arrived.Add(int64(len(r.events)))
	return nil
}

// event checks one event: the next in order, once, with a stamp, and with the previous version if that was asked for
// and there is one.
func (s *watchStream) event(w *watchState, ev *event, at int64) error {
	spec := &s.g.spec
	switch {
	case ev.rev <= w.rev || spec.contiguous && ev.rev != w.rev+1:
		return fmt.Errorf("an event of revision %d after %d", ev.rev, w.rev)
	case ev.stamp < 0:
		return fmt.Errorf("the event of revision %d has no value of this run", ev.rev)
	case ev.prev != (spec.prevKV && ev.version > 1):
		return fmt.Errorf("the event of revision %d, version %d, has a previous version: %t", ev.rev, ev.version,
			ev.prev)
	}
	w.rev = ev.rev
	w.events++
	if ev.stamp >= s.g.from.Load() {
		if s.hist == nil {
			s.hist = newHistogram()
		}
		record(s.hist, at-ev.stamp)
	}
	if spec.want == nil {
		return nil
	}
	switch want := spec.want(s.first + int(s.resp.id)); {
	case w.events == want:
		w.liveAt = at
		s.g.live.Add(1)
	case w.events > want:
		return fmt.Errorf("more than %d events", want)
	}
	return nil
}

func (g *group) fail(err error) { g.failed.CompareAndSwap(nil, &err) }

func (g *group) err() error {
	if err := g.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (g *group) size() int64 { return int64(g.spec.streams) * int64(g.spec.perStream) }

// arrived is how many events have come in all.
func (g *group) arrived() (n int64) {
	for _, s := range g.streams {
		n += s.arrived.Load()
	}
	return n
}

// await waits until count has reached want.
func (g *group) await(ctx context.Context, what string, want int64, count func() int64) error {
	last, since := int64(-1), time.Now()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if err := g.err(); err != nil {
			return err
		}
		n := count()
		switch {
		case n == want:
			return nil
		case n > want:
			return fmt.Errorf("%d %s, want %d", n, what, want)
		case n != last:
			last, since = n, time.Now()
		case time.Since(since) > progressTimeout:
			return fmt.Errorf("only %d of %d %s", n, want, what)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *group) awaitCreated(ctx context.Context) error {
	return g.await(ctx, "watches created", g.size(), g.created.Load)
}

// close ends the streams and waits for their receivers; then their states may be read.
func (g *group) close() {
	g.cancel()
	g.wg.Wait()
}

// latencies merges the histograms of a closed group.
func (g *group) latencies() *hdrhistogram.Histogram {
	h := newHistogram()
	for _, s := range g.streams {
		if s.hist != nil {
			h.Merge(s.hist)
		}
	}
	return h
}

// check fails unless each watch of a closed group has seen want events.
func (g *group) check(want func(i int) int64) error {
	var errs []error
	for _, s := range g.streams {
		for i := range s.watches {
			if n := want(s.first + i); s.watches[i].events != n {
				errs = append(errs, fmt.Errorf("watch %d saw %d events, want %d", s.first+i, s.watches[i].events, n))
				if len(errs) == errorsMax {
					return errors.Join(errs...)
				}
			}
		}
	}
	return errors.Join(errs...)
}

// errorsMax bounds a list of errors.
const errorsMax = 5

// prefixEnd is the end of the interval of all keys that begin with prefix, which must not end in 0xff.
func prefixEnd(prefix string) string {
	return prefix[:len(prefix)-1] + string([]byte{prefix[len(prefix)-1] + 1})
}
