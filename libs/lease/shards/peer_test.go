package shards

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/lease"
)

// fakeOwner is another pod, which the test plays.
type fakeOwner struct {
	pb.LeaseClient
	streams  int // opened
	requests chan int64
	answers  chan *pb.LeaseKeepAliveResponse // nil: the stream breaks
	closed   atomic.Bool
}

func newFakeOwner() *fakeOwner {
	return &fakeOwner{requests: make(chan int64, 100), answers: make(chan *pb.LeaseKeepAliveResponse, 100)}
}

func (o *fakeOwner) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	o.streams++
	return &fakeStream{ctx: ctx, o: o}, nil
}

func (o *fakeOwner) Close() error {
	o.closed.Store(true)
	return nil
}

type fakeStream struct {
	grpc.ClientStream
	ctx context.Context
	o   *fakeOwner
}

func (s *fakeStream) Send(r *pb.LeaseKeepAliveRequest) error {
	s.o.requests <- r.ID
	return nil
}

func (s *fakeStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	select {
	case r := <-s.o.answers:
		if r == nil {
			return nil, io.ErrUnexpectedEOF
		}
		return r, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func (o *fakeOwner) answer(id, ttl int64) { o.answers <- &pb.LeaseKeepAliveResponse{ID: id, TTL: ttl} }

// asked returns the renewals that have been sent since it was called last.
func (o *fakeOwner) asked() (n int) {
	synctest.Wait()
	for range len(o.requests) {
		<-o.requests
		n++
	}
	return n
}

// renewing asks for a renewal and returns where its answer will be.
func (p *renewals) renewing(ctx context.Context, id int64) <-chan answer {
	ch := make(chan answer, 1)
	go func() {
		ttl, err := p.renew(ctx, id)
		ch <- answer{ttl, err}
	}()
	synctest.Wait()
	return ch
}

// TestPeer: a renewal is answered by one that was sent after it was asked for; what breaks is asked again elsewhere.
func TestPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newFakeOwner()
		pod := newPeer(o)
		p := &pod.streams[0]
		pending := func(chs ...<-chan answer) {
			t.Helper()
			synctest.Wait()
			for i, ch := range chs {
				if len(ch) > 0 {
					t.Errorf("%d was answered too early", i)
				}
			}
		}
		expect := func(ch <-chan answer, want answer) {
			t.Helper()
			synctest.Wait()
			select {
			case got := <-ch:
				if got.ttl != want.ttl || !errors.Is(got.err, want.err) {
					t.Errorf("got %v, want %v", got, want)
				}
			default:
				t.Error("no answer")
			}
		}
		first := p.renewing(t.Context(), 1)
		if n := o.asked(); n != 1 {
			t.Fatalf("%d sent", n)
		}
		second, third, fourth := p.renewing(t.Context(), 1), p.renewing(t.Context(), 1), p.renewing(t.Context(), 2)
		if n := o.asked(); n != 1 { // of the other lease
			t.Fatalf("%d sent while one is on its way", n)
		}
		o.answer(1, 10)
		expect(first, answer{ttl: 10})
		pending(second, third, fourth)
		if n := o.asked(); n != 1 {
			t.Fatalf("%d sent for two", n)
		}
		o.answer(1, 0)
		expect(second, answer{})
		expect(third, answer{})
		pending(fourth)
		o.answer(2, lease.NotOwnedTTL)
		expect(fourth, answer{err: errElsewhere})
		o.answer(7, 5) // nobody asked
		if len(p.calls) != 0 || p.waiting != 0 {
			t.Errorf("%d calls, %d waiting in the end", len(p.calls), p.waiting)
		}

		// One who goes away leaves nothing behind, and what was on its way for him is not the answer for the next.
		ctx, cancel := context.WithCancel(t.Context())
		gone := p.renewing(ctx, 1)
		o.asked()
		cancel()
		expect(gone, answer{err: errElsewhere})
		next := p.renewing(t.Context(), 1)
		o.answer(1, 10)
		pending(next)
		if n := o.asked(); n != 1 {
			t.Fatalf("%d sent", n)
		}
		o.answer(1, 20)
		expect(next, answer{ttl: 20})

		// A stream that breaks sends all elsewhere; the next renewal opens another.
		a, b := p.renewing(t.Context(), 1), p.renewing(t.Context(), 1)
		o.answers <- nil
		expect(a, answer{err: errElsewhere})
		expect(b, answer{err: errElsewhere})
		o.asked()
		c := p.renewing(t.Context(), 1)
		o.answer(1, 30)
		expect(c, answer{ttl: 30})
		if o.streams != 2 {
			t.Errorf("%d streams", o.streams)
		}

		last := p.renewing(t.Context(), 3)
		pod.close()
		expect(last, answer{err: errElsewhere})
		if _, err := p.renew(t.Context(), 1); !errors.Is(err, errElsewhere) || !o.closed.Load() {
			t.Errorf("after close: %v; client closed: %v", err, o.closed.Load())
		}
		if len(p.calls) != 0 || p.waiting != 0 {
			t.Errorf("%d calls, %d waiting in the end", len(p.calls), p.waiting)
		}
	})
}

// silentOwner is another pod of whose streams the test hears: the first never answers.
type silentOwner struct {
	pb.LeaseClient
	streams atomic.Int64
}

func (o *silentOwner) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	s := &echoStream{ctx: ctx, requests: make(chan int64, 100)}
	s.silent = o.streams.Add(1) == 1
	return s, nil
}

type echoStream struct {
	grpc.ClientStream
	ctx      context.Context
	requests chan int64
	silent   bool
}

func (s *echoStream) Send(r *pb.LeaseKeepAliveRequest) error {
	s.requests <- r.ID
	return nil
}

func (s *echoStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	requests := s.requests
	if s.silent {
		requests = nil
	}
	select {
	case id := <-requests:
		return &pb.LeaseKeepAliveResponse{ID: id, TTL: id}, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

// TestPeerStreams: a stream that is stuck holds up no renewals but those that go over it.
func TestPeerStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(&silentOwner{})
		defer p.close()
		ctx, cancel := context.WithCancel(t.Context())
		var stuck, answered int
		for id := int64(1); id <= 100; id++ {
			ch := p.stream(id).renewing(ctx, id)
			select {
			case a := <-ch:
				answered++
				if a.err != nil || a.ttl != id {
					t.Errorf("lease %d: %+v", id, a)
				}
			default:
				if stuck++; p.stream(id) != p.stream(1) {
					t.Errorf("lease %d waits for another's stream", id)
				}
			}
		}
		if stuck > 100*2/renewalStreams || answered == 0 {
			t.Errorf("%d are stuck, %d answered", stuck, answered)
		}
		cancel()
		synctest.Wait()
	})
}

// slowStore is a lease.Store whose scans wait for the test.
type slowStore struct {
	lease.Store
	scans atomic.Int64
	gate  chan error
}

func (s *slowStore) Leases(ctx context.Context, visit func(id, ttl int64) error) error {
	n := s.scans.Add(1)
	select {
	case err := <-s.gate:
		if err != nil {
			return err
		}
		return visit(n, 1)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestLoader: those who come while a scan is under way share the next one.
func TestLoader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowStore{gate: make(chan error)}
		l := &loader{Store: s}
		type result struct {
			scan int64
			err  error
		}
		read := func(ctx context.Context) <-chan result {
			ch := make(chan result, 1)
			go func() {
				var r result
				r.err = l.Leases(ctx, func(id, _ int64) error {
					r.scan = id
					return nil
				})
				ch <- r
			}()
			synctest.Wait()
			return ch
		}
		first := read(t.Context())
		second, third := read(t.Context()), read(t.Context())
		s.gate <- nil
		if r := <-first; r.scan != 1 || r.err != nil {
			t.Errorf("first: %+v", r)
		}
		s.gate <- nil
		for _, ch := range []<-chan result{second, third} {
			if r := <-ch; r.scan != 2 || r.err != nil {
				t.Errorf("shared: %+v", r)
			}
		}

		// One who goes away spoils it for himself only.
		first = read(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		impatient := read(ctx) // it is to run the next scan
		patient := read(t.Context())
		s.gate <- nil
		<-first
		synctest.Wait()
		cancel()
		if r := <-impatient; !errors.Is(r.err, context.Canceled) {
			t.Errorf("impatient: %+v", r)
		}
		s.gate <- nil
		if r := <-patient; r.scan != 5 || r.err != nil {
			t.Errorf("patient: %+v", r)
		}
		errDown := errors.New("down")
		failed := read(t.Context())
		s.gate <- errDown
		if r := <-failed; !errors.Is(r.err, errDown) {
			t.Errorf("failed: %+v", r)
		}
	})
}
