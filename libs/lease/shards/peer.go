package shards

import (
	"context"
	"io"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// peer is another pod. Renewals forwarded to it use renewalStreams streams, each lease always the same one. A delay of
// one stream, on the way or at the other pod, affects only its share of the leases.
type peer struct {
	client  pb.LeaseClient
	cancel  context.CancelFunc
	streams [renewalStreams]renewals
}

func newPeer(client pb.LeaseClient) *peer {
	p := &peer{client: client}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(lease.Forwarding(context.Background()))
	for i := range p.streams {
		p.streams[i].init(ctx, client)
	}
	return p
}

// renew renews a lease there. Errors: errElsewhere, mvcc.ErrTooManyRequests, ctx's.
func (p *peer) renew(ctx context.Context, id int64) (int64, error) {
	return p.stream(id).renew(ctx, id)
}

// stream is the one for a lease.
func (p *peer) stream(id int64) *renewals {
	return &p.streams[uint64(id)*0x9E3779B97F4A7C15>>32%renewalStreams]
}

// close ends the streams and closes the client.
func (p *peer) close() {
	for i := range p.streams {
		p.streams[i].refuse()
	}
	p.cancel()
	for i := range p.streams {
		p.streams[i].wg.Wait()
	}
	if c, ok := p.client.(io.Closer); ok {
		_ = c.Close() // an error loses nothing
	}
}

// renewals are the renewals that share a stream to another pod. They do not wait for one another.
//
// At most one renewal per lease is on its way at a time, so that answers need no numbers. Renewals that come meanwhile
// are sent together as the next one. A caller never gets the answer to a renewal that was sent before its call: its
// lease would live shorter than promised.
type renewals struct {
	client pb.LeaseClient
	ctx    context.Context // ended by peer.close
	wake   chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	running bool // the stream's goroutine
	calls   map[int64]*call
	queue   []int64 // leases to send a renewal for
	waiting int
}

// call is the state of one lease.
type call struct {
	sent       []chan answer // wait for the renewal on its way
	inFlight   bool          // also if nobody waits for it any more
	next       []chan answer // wait for one that has not been sent
	nextQueued bool
}

// answer is the result of a renewal.
type answer struct {
	ttl int64
	err error
}

func (p *renewals) init(ctx context.Context, client pb.LeaseClient) {
	p.ctx, p.client, p.calls, p.wake = ctx, client, map[int64]*call{}, make(chan struct{}, 1)
}

// renew renews a lease there. Errors: errElsewhere, mvcc.ErrTooManyRequests, ctx's.
func (p *renewals) renew(ctx context.Context, id int64) (int64, error) {
	ch, err := p.ask(id)
	if err != nil {
		return 0, err
	}
	select {
	case a := <-ch:
		return a.ttl, a.err
	case <-ctx.Done():
		p.forget(id, ch)
		return 0, errElsewhere // route looks whether it was the client who went away
	}
}

func (p *renewals) ask(id int64) (chan answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, errElsewhere
	case p.waiting >= renewalsForwardedMax:
		return nil, mvcc.ErrTooManyRequests
	}
	p.waiting++
	c := p.calls[id]
	if c == nil {
		c = &call{}
		p.calls[id] = c
	}
	ch := make(chan answer, 1)
	c.next = append(c.next, ch)
	p.enqueue(id, c)
	if !p.running {
		p.running = true
		p.wg.Go(p.run)
	}
	return ch, nil
}

// enqueue queues a renewal for those who wait for the next one, unless one is on its way.
func (p *renewals) enqueue(id int64, c *call) {
	if c.inFlight || c.nextQueued || len(c.next) == 0 {
		return
	}
	c.nextQueued = true
	p.queue = append(p.queue, id)
	wake(p.wake)
}

// forget ends the wait of a caller who has gone away.
func (p *renewals) forget(id int64, ch chan answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.calls[id]
	if c == nil {
		return
	}
	for _, list := range []*[]chan answer{&c.sent, &c.next} {
		if i := slices.Index(*list, ch); i >= 0 {
			*list = slices.Delete(*list, i, i+1)
			p.waiting--
		}
	}
}

// run carries renewals over one stream until it breaks. The next renewal opens another.
func (p *renewals) run() {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	stream, err := p.client.LeaseKeepAlive(ctx)
	if err == nil {
		var receiving sync.WaitGroup
		receiving.Go(func() {
			defer cancel()
			p.receive(stream)
		})
		p.send(ctx, stream)
		cancel()
		receiving.Wait()
	}
	p.fail()
}

func (p *renewals) send(ctx context.Context, stream pb.Lease_LeaseKeepAliveClient) {
	for {
		for _, id := range p.take() {
			if stream.Send(&pb.LeaseKeepAliveRequest{ID: id}) != nil {
				return
			}
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
			return
		}
	}
}

// take returns the leases to send renewals for, as sent.
func (p *renewals) take() []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []int64
	for _, id := range p.queue {
		c := p.calls[id]
		c.nextQueued = false
		if len(c.next) == 0 { // all have gone away
			delete(p.calls, id)
			continue
		}
		c.sent, c.next, c.inFlight = c.next, nil, true
		ids = append(ids, id)
	}
	p.queue = nil
	return ids
}

func (p *renewals) receive(stream pb.Lease_LeaseKeepAliveClient) {
	for {
		r, err := stream.Recv()
		if err != nil {
			return
		}
		a := answer{ttl: r.GetTTL()}
		if a.ttl == lease.NotOwnedTTL {
			a = answer{err: errElsewhere}
		}
		p.answer(r.GetID(), a)
	}
}

func (p *renewals) answer(id int64, a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.calls[id]
	if c == nil || !c.inFlight {
		return
	}
	p.tell(c.sent, a)
	c.sent, c.inFlight = nil, false
	if p.enqueue(id, c); !c.nextQueued {
		delete(p.calls, id)
	}
}

func (p *renewals) tell(waiters []chan answer, a answer) {
	p.waiting -= len(waiters)
	for _, ch := range waiters {
		ch <- a // has room
	}
}

// fail releases all who wait, and allows for another stream.
func (p *renewals) fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		p.tell(c.sent, answer{err: errElsewhere})
		p.tell(c.next, answer{err: errElsewhere})
	}
	clear(p.calls)
	p.queue, p.running = nil, false
}

// refuse makes further renewals fail. Those that wait end with ctx.
func (p *renewals) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

// peer returns the pod at addr.
func (s *Shards) peer(addr string) (*peer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.peers[addr]; p != nil {
		return p, nil
	}
	select {
	case <-s.stopped:
		return nil, lease.ErrStopped
	default:
	}
	client, err := s.o.Dial(addr)
	if err != nil {
		return nil, err
	}
	p := newPeer(client)
	s.peers[addr] = p
	return p, nil
}

// ownersChanged closes the peers that no longer own a shard, and reports that the pod is ready when every shard has had
// an owner.
func (s *Shards) ownersChanged() {
	owners := map[string]bool{}
	ready := true
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		owners[h.owner] = true
		ready = ready && h.had
		h.mu.Unlock()
	}
	if ready {
		s.once.Do(func() { close(s.ready) })
	}
	s.mu.Lock()
	var idle []*peer
	for addr, p := range s.peers {
		if !owners[addr] {
			idle = append(idle, p)
			delete(s.peers, addr)
		}
	}
	s.mu.Unlock()
	for _, p := range idle {
		p.close()
	}
}

// closePeers closes all; Run has ended.
func (s *Shards) closePeers() {
	s.mu.Lock()
	peers := s.peers
	s.peers = map[string]*peer{}
	s.mu.Unlock()
	for _, p := range peers {
		p.close()
	}
}
