package sidebyside

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

// fragmentBytesMax bounds a message of a watch with fragments on, unless it holds a single event: etcd's request
// limit and its 512 KiB of overhead.
const fragmentBytesMax = 2 << 20

// stream is one gRPC watch stream and everything received on it, sorted by watch. Safe for concurrent use.
type stream struct {
	rpc    grpc.BidiStreamingClient[pb.WatchRequest, pb.WatchResponse]
	cancel context.CancelFunc
	done   chan struct{} // closed when the receiver is gone

	mu        sync.Mutex
	changed   chan struct{}            // closed and replaced at every change
	pending   []*pb.WatchCreateRequest // sent and not answered yet; etcd answers in order
	watches   []*watch                 // in creation order, rejected ones too
	live      map[int64]*watch
	lost      map[int64]bool // ids of watches canceled by compaction
	compacted int64          // highest revision compacted so far
	partial   *watch         // whose response is under way in fragments
	progress  []mark
	problems  []string
	ended     error
}

// watch is what one watcher has received.
type watch struct {
	req       *pb.WatchCreateRequest
	created   *pb.WatchResponse
	events    []*mvccpb.Event
	closed    *pb.WatchResponse // the response that canceled it
	header    int64             // header revision of the last response with events
	ahead     string            // first event that came after a header had passed it
	fragment  bool              // the last response is not complete
	compacted int64             // highest revision that had been compacted when the watch was created
	synced    bool              // known to have caught up
}

// mark is an answered progress request. It says that everything up to rev has been sent to the first n watches of the
// stream.
type mark struct {
	rev int64
	n   int
}

func openStream(client pb.WatchClient) (*stream, error) {
	ctx, cancel := context.WithCancel(context.Background())
	rpc, err := client.Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &stream{
		rpc: rpc, cancel: cancel, done: make(chan struct{}),
		changed: make(chan struct{}), live: map[int64]*watch{}, lost: map[int64]bool{},
	}
	go s.receive()
	return s, nil
}

func (s *stream) receive() {
	defer close(s.done)
	for {
		resp, err := s.rpc.Recv()
		s.mu.Lock()
		if err != nil {
			s.ended = err
		} else {
			s.take(resp)
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take files one response under its watch, and checks what holds for any watch stream. s.mu is held.
func (s *stream) take(resp *pb.WatchResponse) {
	if s.partial != nil && s.live[resp.GetWatchId()] != s.partial {
		s.problem("a response of watch %d came between fragments", resp.GetWatchId())
	}
	switch {
	case resp.GetCreated():
		s.takeCreated(resp)
	case resp.GetWatchId() == -1:
		if len(resp.GetEvents()) > 0 || resp.GetCanceled() {
			s.problem("events or cancel for watch -1: %v", resp)
		}
		s.progress = append(s.progress, mark{resp.GetHeader().GetRevision(), len(s.watches)})
	default:
		w := s.live[resp.GetWatchId()]
		if w == nil {
			if resp.GetCanceled() && s.lost[resp.GetWatchId()] { // T16
				return
			}
			s.problem("response for watch %d, which is not open: %s", resp.GetWatchId(), short(resp))
			return
		}
		if len(resp.GetEvents()) > 0 {
			s.takeEvents(w, resp)
		}
		if resp.GetCanceled() {
			w.closed = resp
			delete(s.live, resp.GetWatchId())
			if resp.GetCompactRevision() != 0 {
				s.lost[resp.GetWatchId()] = true
			}
		}
	}
}

func (s *stream) takeCreated(resp *pb.WatchResponse) {
	if len(s.pending) == 0 {
		s.problem("created response without a request: %s", short(resp))
		return
	}
	w := &watch{req: s.pending[0], created: resp, compacted: s.compacted}
	s.pending = s.pending[1:]
	s.watches = append(s.watches, w)
	if resp.GetCanceled() {
		w.closed = resp
		return
	}
	if s.live[resp.GetWatchId()] != nil {
		s.problem("watch id %d given twice", resp.GetWatchId())
	}
	s.live[resp.GetWatchId()] = w
}

func (s *stream) takeEvents(w *watch, resp *pb.WatchResponse) {
	header, events := resp.GetHeader().GetRevision(), resp.GetEvents()
	id := resp.GetWatchId()
	first, last := events[0].GetKv().GetModRevision(), events[len(events)-1].GetKv().GetModRevision()
	if n := len(w.events); n > 0 {
		before := w.events[n-1].GetKv().GetModRevision()
		if first < before || (first == before && !w.fragment) {
			s.problem("watch %d: revision %d in a response after revision %d", id, first, before)
		}
	}
	for i := 1; i < len(events); i++ {
		if events[i].GetKv().GetModRevision() < events[i-1].GetKv().GetModRevision() {
			s.problem("watch %d: events out of order: %s", id, short(resp))
		}
	}
	if header < last {
		s.problem("watch %d: header revision %d is behind its event %d", id, header, last)
	}
	if w.ahead == "" && !w.fragment && first <= w.header {
		w.ahead = fmt.Sprintf("watch %d: event %d came after header revision %d", id, first, w.header)
	}
	if start := w.req.GetStartRevision(); first < start ||
		(start == 0 && first <= w.created.GetHeader().GetRevision()) {
		s.problem("watch %d: event %d is before its start", id, first)
	}
	for _, m := range s.progress {
		if first <= m.rev && s.indexOf(w) < m.n {
			s.problem("watch %d: event %d came after progress %d", id, first, m.rev)
		}
	}
	if resp.GetFragment() && !w.req.GetFragment() {
		s.problem("watch %d: fragment was not asked for", id)
	}
	if w.req.GetFragment() && len(events) > 1 && sizeOf(resp) > fragmentBytesMax {
		s.problem("watch %d: fragment of %d bytes with %d events", id, sizeOf(resp), len(events))
	}
	w.events = append(w.events, events...)
	w.header, w.fragment = header, resp.GetFragment()
	s.partial = nil
	if w.fragment {
		s.partial = w
	}
}

func (s *stream) indexOf(w *watch) int {
	for i := range s.watches {
		if s.watches[i] == w {
			return i
		}
	}
	return -1
}

func (s *stream) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// wait blocks until cond holds, the stream ends, or the timeout is over, and tells whether cond held. cond runs with
// s.mu held.
func (s *stream) wait(timeout time.Duration, cond func() bool) bool {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		ok, ended, changed := cond(), s.ended != nil, s.changed
		s.mu.Unlock()
		if ok || ended {
			return ok
		}
		select {
		case <-changed:
		case <-deadline.C:
			return false
		}
	}
}

// create sends a creation and returns the answer; nil if none came.
func (s *stream) create(req *pb.WatchCreateRequest) *pb.WatchResponse {
	s.mu.Lock()
	n := len(s.watches)
	s.pending = append(s.pending, req)
	s.mu.Unlock()
	// After a failed send the stream ends, which the receiver notices.
	s.rpc.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: req}})
	if !s.wait(patience, func() bool { return len(s.watches) > n }) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watches[n].created
}

// cancelWatch sends a cancel. If the id is open it waits for the answer and returns it, nil if none came.
func (s *stream) cancelWatch(id int64) *pb.WatchResponse {
	s.mu.Lock()
	w := s.live[id]
	s.mu.Unlock()
	s.rpc.Send(
		&pb.WatchRequest{
			RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}},
		},
	)
	if w == nil || !s.wait(patience, func() bool { return w.closed != nil }) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return w.closed
}

// askProgress sends a progress request every interval until one is answered or the timeout is over. (etcd does not
// answer while a watcher of the stream is not synced, and clients ask again.) It returns the answered revision.
func (s *stream) askProgress(interval, timeout time.Duration) (int64, bool) {
	s.mu.Lock()
	n := len(s.progress)
	s.mu.Unlock()
	for deadline := time.Now().Add(timeout); ; {
		s.rpc.Send(
			&pb.WatchRequest{
				RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}},
			},
		)
		if s.wait(interval, func() bool { return len(s.progress) > n }) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.progress[len(s.progress)-1].rev, true
		}
		if s.err() != nil || time.Now().After(deadline) {
			return 0, false
		}
	}
}

// err returns the error that ended the stream.
func (s *stream) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func (s *stream) close() {
	s.cancel()
	<-s.done
}

// owed counts the events that w must receive, given all events of the store in revision order.
func (w *watch) owed(all []*mvccpb.Event) int {
	from := w.req.GetStartRevision()
	if from == 0 {
		from = w.created.GetHeader().GetRevision() + 1
	}
	n := 0
	for _, ev := range all {
		if ev.GetKv().GetModRevision() >= from && w.matches(ev) {
			n++
		}
	}
	return n
}

func (w *watch) matches(ev *mvccpb.Event) bool {
	for _, f := range w.req.GetFilters() {
		if (f == pb.WatchCreateRequest_NOPUT && ev.GetType() == mvccpb.Event_PUT) ||
			(f == pb.WatchCreateRequest_NODELETE && ev.GetType() == mvccpb.Event_DELETE) {
			return false
		}
	}
	key, end, at := w.req.GetKey(), w.req.GetRangeEnd(), ev.GetKv().GetKey()
	if len(key) == 0 {
		key = []byte{0}
	}
	switch {
	case len(end) == 0:
		return bytes.Equal(at, key)
	case len(end) == 1 && end[0] == 0:
		return bytes.Compare(at, key) >= 0
	default:
		return bytes.Compare(at, key) >= 0 && bytes.Compare(at, end) < 0
	}
}
