package sidebyside

import (
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/protobuf/proto"
)

const (
	// patience bounds the wait for an answer or an event that is due. A test waits that long only if a server is
	// wrong, so it can be long enough for a busy machine.
	patience = 2 * time.Minute
	// wrongPatience is the same where a server is wrong on purpose.
	wrongPatience    = 10 * time.Second
	progressInterval = 60 * time.Millisecond  // between repeated progress requests
	syncTimeout      = 600 * time.Millisecond // etcd looks for watchers that are behind every 100 ms
	silenceTimeout   = 200 * time.Millisecond // how long to wait where no answer is expected
)

// Pair is the reference and the server under test, fed with the same requests. It is used from one goroutine at a time.
type Pair struct {
	Ref, SUT *Target

	base      int64 // revision at the start of the sequence
	compacted int64 // highest revision compacted so far, -1 if none
	unsettled int   // waits for due events that timed out although both servers agree
}

// Difference describes where two servers disagree.
type Difference struct {
	Op       Op     // the operation at which it showed
	What     string // field or aspect, for telling differences apart
	Ref, SUT string // the two answers
}

func (d *Difference) String() string {
	return fmt.Sprintf("%s\n  what:      %s\n  etcd:      %s\n  headwater: %s", d.Op, d.What, d.Ref, d.SUT)
}

// Signature returns a text that is equal for differences that probably have the same cause.
func (d *Difference) Signature() string { return d.Op.Kind + "|" + d.What }

// InconclusiveError says that the reference itself has misbehaved, in a way that is known of etcd.
type InconclusiveError struct{ Reason string }

func (i *InconclusiveError) Error() string { return "inconclusive: " + i.Reason }

// NewPair starts a fresh reference, whose configuration configure changes, and a fresh server under test.
func NewPair(sut func() (*Target, error), configure ...func(*embed.Config)) (*Pair, error) {
	ref, err := newEtcd("etcd", configure, nil)
	if err != nil {
		return nil, err
	}
	under, err := sut()
	if err != nil {
		ref.Close()
		return nil, err
	}
	return &Pair{Ref: ref, SUT: under, compacted: -1}, nil
}

// Close ends both servers.
func (p *Pair) Close() {
	p.Ref.Close()
	p.SUT.Close()
}

// State is what a generator may know about the running sequence. Revisions count from the sequence's start, as on a
// fresh store.
type State struct {
	Head      int64
	Compacted int64 // -1 if nothing was compacted in this sequence
	Leases    int   // server-picked leases so far
	Streams   map[int][]int64
}

// Run runs one sequence: operations from next until it says no more, then the clean-up. It returns the operations
// that ran, and the first difference, or an error if the pair cannot be used any more.
func (p *Pair) Run(next func(State) (Op, bool)) (ops []Op, d *Difference, err error) {
	p.start()
	for {
		op, ok := next(p.state())
		if !ok {
			break
		}
		ops = append(ops, op)
		if d, err := p.do(op); d != nil || err != nil {
			return ops, d, err
		}
	}
	d, err = p.finish()
	return ops, d, err
}

// Replay runs a given sequence.
func (p *Pair) Replay(ops []Op) (*Difference, error) {
	_, d, err := p.Run(func(State) (Op, bool) {
		if len(ops) == 0 {
			return Op{}, false
		}
		op := ops[0]
		ops = ops[1:]
		return op, true
	})
	return d, err
}

func (p *Pair) start() {
	p.base = p.Ref.head
	for _, t := range []*Target{p.Ref, p.SUT} {
		t.forget()
		t.tap.keepFrom(p.base)
	}
}

// finish empties both servers and compares everything that has not been compared yet.
func (p *Pair) finish() (*Difference, error) {
	var ends []Op
	ends = append(ends,
		Op{Kind: "DeleteRange", Req: &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true}},
		Op{Kind: kindSync})
	for n := range p.Ref.streams {
		ends = append(ends, Op{Kind: kindWatchClose, Stream: n})
	}
	for _, op := range ends {
		if d, err := p.do(op); d != nil || err != nil {
			return d, err
		}
	}
	leases := Op{Kind: "LeaseLeases", Req: &pb.LeaseLeasesRequest{}}
	res := p.Ref.call(leases, leases.Req)
	if d, err := p.do(leases); d != nil || err != nil {
		return d, err
	}
	for _, l := range res.msg.(*pb.LeaseLeasesResponse).GetLeases() {
		if d, err := p.do(Op{Kind: "LeaseRevoke", Req: &pb.LeaseRevokeRequest{ID: l.GetID()}}); d != nil || err != nil {
			return d, err
		}
	}
	return nil, nil
}

func (p *Pair) state() State {
	s := State{Head: p.Ref.head - p.base + 1, Compacted: -1, Leases: len(p.Ref.leases), Streams: map[int][]int64{}}
	if p.compacted >= p.base {
		s.Compacted = p.compacted - p.base + 1
	}
	for n, st := range p.Ref.streams {
		s.Streams[n] = st.liveIDs()
	}
	return s
}

// do runs one operation on both servers and compares.
func (p *Pair) do(op Op) (*Difference, error) {
	switch op.Kind {
	case kindSync:
		p.settle()
		return p.compareStreams(op)
	case kindWatch:
		return p.watch(op)
	case kindWatchClose:
		return p.closeStream(op)
	case kindWatchHalfClose:
		p.halfClose(op)
		return nil, nil
	case kindRestart:
		return p.restart(op)
	}
	if op.Kind == "Compact" {
		p.synchronise() // otherwise it depends on time which watchers are still behind
	}
	req := p.requests(op)
	ref, sut := p.both(func(t *Target) outcome { return t.call(op, req[t]) })
	if c, ok := req[p.Ref].(*pb.CompactionRequest); ok && ref.err == "" {
		p.compacted = max(p.compacted, c.GetRevision())
	}
	if p.SUT.ranked {
		lateKeepAlive(ref.msg, sut.msg)
	}
	return p.compare(op, req[p.Ref], ref, sut), nil
}

// lateKeepAlive lets the header of a relayed keep-alive have an earlier revision than etcd's (T23).
func lateKeepAlive(ref, sut proto.Message) {
	r, ok := ref.(*pb.LeaseKeepAliveResponse)
	s, also := sut.(*pb.LeaseKeepAliveResponse)
	if ok && also && s.GetHeader() != nil && s.Header.Revision < r.GetHeader().GetRevision() {
		s.Header.Revision = r.Header.Revision
	}
}

// requests writes the operation's request for each server.
func (p *Pair) requests(op Op) map[*Target]proto.Message {
	requests := map[*Target]proto.Message{
		p.Ref: rewrite(op.Req, p.base, p.Ref.leases),
		p.SUT: rewrite(op.Req, p.base, p.SUT.leases),
	}
	if p.SUT.ranked {
		for _, req := range requests {
			startSoon(req, p.Ref.head)
		}
	}
	return requests
}

// startSoon makes a watch that would start two or more writes ahead start with the next write. If revisions have gaps,
// nobody knows yet which revisions later writes will have.
func startSoon(req proto.Message, head int64) {
	w, ok := req.(*pb.WatchRequest)
	if c := w.GetCreateRequest(); ok && c.GetStartRevision() > head+1 && c.GetStartRevision() < revisionMovedMax {
		c.StartRevision = head + 1
	}
}

// both runs f for the two servers at the same time.
func (p *Pair) both(f func(*Target) outcome) (ref, sut outcome) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		sut = f(p.SUT)
	}()
	ref = f(p.Ref)
	<-done
	return ref, sut
}

// watch sends one WatchRequest on the stream of each server.
func (p *Pair) watch(op Op) (*Difference, error) {
	for _, t := range []*Target{p.Ref, p.SUT} {
		if t.streams[op.Stream] != nil {
			continue
		}
		s, err := openStream(t.clients.watch, t.patience)
		if err != nil {
			return nil, fmt.Errorf("%s: open a watch stream: %w", t.name, err)
		}
		t.streams[op.Stream] = s
	}
	req := p.requests(op)
	for _, t := range []*Target{p.Ref, p.SUT} {
		t.streams[op.Stream].noteCompacted(p.compacted)
	}
	send := func(t *Target) outcome { return t.watchRequest(op.Stream, req[t].(*pb.WatchRequest)) }
	switch u := req[p.Ref].(*pb.WatchRequest).GetRequestUnion().(type) {
	case *pb.WatchRequest_CancelRequest:
		p.synchronise() // otherwise a cancel may overtake events
	case *pb.WatchRequest_ProgressRequest:
		if u.ProgressRequest != nil {
			p.settle()
			if p.Ref.streams[op.Stream].hasLost() { // T16
				return nil, nil
			}
			silent := p.Ref.streams[op.Stream].silentProgress(p.Ref.head)
			send = func(t *Target) outcome { return t.progressRequest(op.Stream, silent) }
		}
	}
	ref, sut := p.both(send)
	if err := p.referenceFault(); err != nil {
		return nil, err
	}
	return p.compare(op, op.Req, ref, sut), nil
}

func (t *Target) watchRequest(n int, req *pb.WatchRequest) outcome {
	s := t.streams[n]
	var res *pb.WatchResponse
	switch u := req.GetRequestUnion().(type) {
	case *pb.WatchRequest_CreateRequest:
		if res = s.create(u.CreateRequest); res == nil {
			return outcome{err: "no answer to the creation of a watch"}
		}
	case *pb.WatchRequest_CancelRequest:
		res = s.cancelWatch(u.CancelRequest.GetWatchId())
	default:
		s.rpc.Send(req)
	}
	if res == nil {
		return outcome{}
	}
	return outcome{msg: proto.Clone(res)}
}

func (t *Target) progressRequest(n int, silent bool) outcome {
	interval, timeout := progressInterval, t.patience
	if silent {
		interval, timeout = silenceTimeout, 0
	}
	rev, ok := t.streams[n].askProgress(interval, timeout)
	if !ok {
		return outcome{err: "no answer to a progress request"}
	}
	return outcome{msg: &pb.WatchResponse{WatchId: -1, Header: &pb.ResponseHeader{Revision: rev}}}
}

// settle waits until both servers have delivered every event that is due.
func (p *Pair) settle() {
	deadline := time.Now().Add(p.Ref.patience)
	for _, t := range []*Target{p.Ref, p.SUT} {
		head := max(p.Ref.head, p.SUT.head)
		settled := t.tap.wait(time.Until(deadline), func() bool { return t.tap.lastEvent() >= head })
		all := t.tap.allEvents()
		for _, s := range t.streams {
			settled = s.wait(time.Until(deadline), func() bool {
				for _, w := range s.watches {
					if w.closed == nil && (len(w.events) < w.owed(all) || w.behind()) {
						return false
					}
				}
				return true
			}) && settled
		}
		if !settled {
			p.unsettled++
		}
	}
}

// behind reports whether the watch asked for compacted history when it was created. Then it will be canceled.
func (w *watch) behind() bool {
	start := w.req.GetStartRevision()
	return start > 0 && start < w.compacted
}

// synchronise waits until no watcher is still catching up, so that a compaction or a cancel finds all of them in the
// same state on both servers. Most watchers show that by the events that they get. A watcher without due events shows
// it by an answer to a progress request. Where etcd does not answer one, synchronise can only wait.
func (p *Pair) synchronise() {
	p.settle()
	for n, ref := range p.Ref.streams {
		unknown := ref.markSynced(p.Ref.head)
		p.SUT.streams[n].markSynced(p.Ref.head)
		if !unknown {
			continue
		}
		if ref.silentProgress(p.Ref.head) {
			time.Sleep(syncTimeout)
			continue
		}
		p.both(func(t *Target) outcome { return t.progressRequest(n, false) })
	}
}

// closeStream compares a stream for the last time and drops it, as a client that goes away does.
func (p *Pair) closeStream(op Op) (*Difference, error) {
	if p.Ref.streams[op.Stream] == nil {
		return nil, nil
	}
	p.settle()
	if d, err := p.compareStreams(op); d != nil || err != nil {
		return d, err
	}
	for _, t := range []*Target{p.Ref, p.SUT} {
		t.streams[op.Stream].close()
		delete(t.streams, op.Stream)
	}
	return nil, nil
}

// halfClose tells both servers that a stream will send no more requests. etcd goes on with the watches.
func (p *Pair) halfClose(op Op) {
	for _, t := range []*Target{p.Ref, p.SUT} {
		if s := t.streams[op.Stream]; s != nil {
			s.rpc.CloseSend()
		}
	}
}

func (p *Pair) restart(op Op) (*Difference, error) {
	p.settle()
	if d, err := p.compareStreams(op); d != nil || err != nil {
		return d, err
	}
	for _, t := range []*Target{p.Ref, p.SUT} {
		if err := t.reopen(max(p.base, p.compacted)); err != nil {
			return nil, fmt.Errorf("restart %s: %w", t.name, err)
		}
	}
	return nil, nil
}
