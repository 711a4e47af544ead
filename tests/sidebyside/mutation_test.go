package sidebyside

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/tests/internal/refetcd"
)

// mutation falsifies one thing in the answers of the server under test.
type mutation struct {
	name    string
	ops     []string
	request func(req any) bool                   // changes a request in place; false: it does not apply to this one
	reply   func(reply any) bool                 // changes an answer in place; false: it does not apply to this one
	drop    func(reply *pb.WatchResponse) bool   // swallows a watch response
	twice   func(reply *pb.WatchResponse) bool   // delivers a watch response twice
	err     func(method string, err error) error // changes an error
}

var put2 = []string{"Put key:'a' value:'1'", "Put key:'a' value:'2' prev_kv:true"}

func then(ops ...string) []string { return append(append([]string(nil), put2...), ops...) }

func on[T any](change func(T) bool) func(any) bool {
	return func(reply any) bool {
		r, ok := reply.(T)
		return ok && change(r)
	}
}

var mutations = []mutation{
	{name: "count", ops: then("Range key:'a'"), reply: on(func(r *pb.RangeResponse) bool { r.Count++; return true })},
	{
		name:  "more",
		ops:   then("Range key:'a'"),
		reply: on(func(r *pb.RangeResponse) bool { r.More = !r.More; return true }),
	},
	{
		name:  "read revision",
		ops:   then("Range key:'zz'"),
		reply: on(func(r *pb.RangeResponse) bool { r.Header.Revision++; return true }),
	},
	{name: "version", ops: then("Range key:'a'"), reply: on(bump)},
	{
		name:  "stream value",
		ops:   then("RangeStream key:'a'"),
		reply: on(func(r *pb.RangeStreamResponse) bool { r.RangeResponse.Kvs[0].Value = nil; return true }),
	},
	{name: "previous value", ops: put2, reply: on(func(r *pb.PutResponse) bool {
		if r.PrevKv == nil {
			return false
		}
		r.PrevKv = nil
		return true
	})},
	{
		name:  "deleted",
		ops:   then("DeleteRange key:'zz'"),
		reply: on(func(r *pb.DeleteRangeResponse) bool { r.Deleted++; return true }),
	},
	{name: "succeeded", ops: then("Txn"), reply: on(func(r *pb.TxnResponse) bool { r.Succeeded = false; return true })},
	{
		name: "header inside a transaction", ops: then("Txn success:{request_range:{key:'a'}}"),
		reply: on(func(r *pb.TxnResponse) bool {
			r.Responses[0].GetResponseRange().Header.Revision++
			return true
		}),
	},
	{
		name:  "zero cluster id",
		ops:   put2,
		reply: on(func(r *pb.PutResponse) bool { r.Header.ClusterId = 0; return true }),
	},
	{
		name:  "missing header",
		ops:   then("Compact revision:2"),
		reply: on(func(r *pb.CompactionResponse) bool { r.Header = nil; return true }),
	},
	{
		name: "error text",
		ops:  then("Put"),
		err:  func(_ string, err error) error { return status.Error(status.Code(err), "another text") },
	},
	{
		name: "error code",
		ops:  then("Put"),
		err:  func(_ string, err error) error { return status.Error(codes.Internal, status.Convert(err).Message()) },
	},
	{name: "error swallowed", ops: then("Put"), err: func(string, error) error { return nil }},
	{
		name:  "granted ttl",
		ops:   []string{"LeaseGrant ID:3 TTL:400"},
		reply: on(func(r *pb.LeaseGrantResponse) bool { r.TTL--; return true }),
	},
	{
		name:  "remaining ttl",
		ops:   []string{"LeaseGrant ID:3 TTL:400", "LeaseTimeToLive ID:3"},
		reply: on(func(r *pb.LeaseTimeToLiveResponse) bool { r.TTL = 401; return true }),
	},
	{
		name:  "lease keys",
		ops:   []string{"LeaseGrant ID:3 TTL:400", "Put key:'a' lease:3", "LeaseTimeToLive ID:3 keys:true"},
		reply: on(func(r *pb.LeaseTimeToLiveResponse) bool { r.Keys = nil; return true }),
	},
	{
		name:  "created revision",
		ops:   then("Watch#0 create_request:{key:'a'}"),
		reply: on(func(r *pb.WatchResponse) bool { r.Header.Revision++; return r.Created }),
	},
	{
		name:  "watch id",
		ops:   then("Watch#0 create_request:{key:'a'}"),
		reply: on(func(r *pb.WatchResponse) bool { r.WatchId = 5; return true }),
	},
	{
		name: "cancel reason", ops: []string{"Watch#0 create_request:{key:'b' range_end:'a'}"},
		reply: on(func(r *pb.WatchResponse) bool {
			if r.CancelReason == "" {
				return false
			}
			r.CancelReason = "no"
			return true
		}),
	},
	{name: "event dropped", ops: watchPuts, drop: watchEvent},
	{name: "event twice", ops: watchPuts, twice: watchEvent},
	{name: "event type", ops: watchPuts, reply: on(func(r *pb.WatchResponse) bool {
		return withEvents(r, func(ev *mvccpb.Event) { ev.Type = 1 - ev.Type })
	})},
	{
		name:  "event prev_kv",
		ops:   watchPuts,
		reply: on(func(r *pb.WatchResponse) bool { return withEvents(r, func(ev *mvccpb.Event) { ev.PrevKv = nil }) }),
	},
	{
		name: "event header ahead",
		ops:  watchPuts,
		reply: on(
			func(r *pb.WatchResponse) bool { return withEvents(r, func(*mvccpb.Event) { r.Header.Revision += 2 }) },
		),
	},
	{
		name:  "event header behind",
		ops:   watchPuts,
		reply: on(func(r *pb.WatchResponse) bool { return withEvents(r, func(*mvccpb.Event) { r.Header.Revision-- }) }),
	},
	{
		name: "progress revision",
		ops:  append([]string{"Watch#0 create_request:{key:'a'}"}, then("Watch#0 progress_request:{}")...),
		reply: on(func(r *pb.WatchResponse) bool {
			if r.WatchId != -1 || r.Created {
				return false
			}
			r.Header.Revision++
			return true
		}),
	},
	{
		name: "cancel ignored",
		ops:  []string{"Watch#0 create_request:{key:'a'}", "Watch#0 cancel_request:{watch_id:0}"},
		drop: func(r *pb.WatchResponse) bool { return r.Canceled },
	},
	{
		name: "compact_revision", ops: then("Compact revision:3", "Watch#0 create_request:{key:'a' start_revision:2}"),
		reply: on(func(r *pb.WatchResponse) bool {
			if r.CompactRevision == 0 {
				return false
			}
			r.CompactRevision--
			return true
		}),
	},
}

var watchPuts = []string{
	"Watch#0 create_request:{key:'a' prev_kv:true}",
	"Put key:'a' value:'1'", "Put key:'a' value:'2'", "Put key:'a' value:'3'", "DeleteRange key:'a'", "Sync",
}

func bump(r *pb.RangeResponse) bool {
	if len(r.Kvs) == 0 {
		return false
	}
	r.Kvs[0].Version++
	return true
}

// withEvents changes a response through its first event that the mutations work on.
func withEvents(r *pb.WatchResponse, change func(*mvccpb.Event)) bool {
	i := slices.IndexFunc(r.Events, hasPrevious)
	if i >= 0 {
		change(r.Events[i])
	}
	return i >= 0
}

// watchEvent recognises responses with events that the mutations work on. It leaves the tap alone, which asks for no
// prev_kv.
func watchEvent(r *pb.WatchResponse) bool { return slices.ContainsFunc(r.Events, hasPrevious) }

func hasPrevious(ev *mvccpb.Event) bool { return ev.PrevKv != nil }

// TestHarnessSeesEveryMutation checks that the harness can fail. It must find every falsified answer, and find nothing
// without one.
func TestHarnessSeesEveryMutation(t *testing.T) {
	under, err := refetcd.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer under.Remove()
	seeAll(t, mutations, func(dial []grpc.DialOption) (*Target, error) {
		return newTarget("headwater", under, nil, dial)
	})
}

// seeAll tries each mutation on a pair of a real etcd and the server that connect leads to.
func seeAll(t *testing.T, all []mutation, connect func([]grpc.DialOption) (*Target, error)) {
	t.Helper()
	ref, err := refetcd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ref.Remove)
	for _, m := range all {
		t.Run(m.name, func(t *testing.T) { m.see(t, ref, connect) })
	}
}

func (m mutation) see(t *testing.T, ref server, connect func([]grpc.DialOption) (*Target, error)) {
	t.Helper()
	var armed atomic.Bool
	pair := &Pair{compacted: -1}
	var err error
	if pair.Ref, err = newTarget("etcd", ref, nil, nil); err != nil {
		t.Fatal(err)
	}
	defer pair.Ref.disconnect()
	if pair.SUT, err = connect(m.dialOptions(&armed)); err != nil {
		t.Fatal(err)
	}
	defer pair.SUT.disconnect()
	level(t, pair)
	ops, err := Case{Name: m.name, Ops: m.ops}.Parse()
	if err != nil {
		t.Fatal(err)
	}
	if d, err := pair.Replay(ops); d != nil || err != nil {
		t.Fatalf("a difference without mutation: %v, %v", d, err)
	}
	armed.Store(true)
	// It is that of streams that are opened from now on too.
	pair.Ref.patience, pair.SUT.patience = wrongPatience, wrongPatience
	d, err := pair.Replay(ops)
	if err != nil {
		t.Fatal(err)
	}
	if d == nil {
		t.Fatalf("the mutation was not seen; it was not made: %t", armed.Load())
	}
	t.Log(d)
	armed.Store(false)
	removeAll(t, pair.Ref)
	removeAll(t, pair.SUT)
}

// level empties both servers and brings them to the same revision, because a falsified request may have changed more on
// one of them.
func level(t *testing.T, pair *Pair) {
	t.Helper()
	targets := []*Target{pair.Ref, pair.SUT}
	for _, target := range targets {
		removeAll(t, target)
		res, err := target.clients.kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("a")})
		if err != nil {
			t.Fatal(err)
		}
		target.head = res.GetHeader().GetRevision()
	}
	goal := max(pair.Ref.head, pair.SUT.head) + 2 // two are needed to write and delete a key
	for _, target := range targets {
		for ; target.head < goal-1; target.head++ {
			if _, err := target.clients.kv.Put(t.Context(), &pb.PutRequest{Key: []byte("level")}); err != nil {
				t.Fatal(err)
			}
		}
		removeAll(t, target)
		target.head++
	}
	pair.settle() // wait until the taps have seen it
}

// dialOptions put the mutation between the client and its connection. When armed it applies once.
func (m mutation) dialOptions(armed *atomic.Bool) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
			invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			req = m.falsify(armed, req)
			err := invoke(ctx, method, req, reply, cc, opts...)
			switch {
			case err != nil && m.err != nil && armed.CompareAndSwap(true, false):
				return m.err(method, err)
			case err == nil && m.reply != nil && armed.Load() && m.reply(reply):
				armed.Store(false)
			}
			return err
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn,
			method string, open grpc.Streamer, opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			s, err := open(ctx, desc, cc, method, opts...)
			return &mutatedStream{ClientStream: s, m: m, armed: armed}, err
		}),
	}
}

// falsify returns the request that is sent instead of req.
func (m mutation) falsify(armed *atomic.Bool, req any) any {
	r, ok := req.(proto.Message)
	if m.request == nil || !ok || !armed.Load() {
		return req
	}
	if r = proto.Clone(r); !m.request(r) {
		return req
	}
	armed.Store(false)
	return r
}

type mutatedStream struct {
	grpc.ClientStream
	m     mutation
	armed *atomic.Bool
	again *pb.WatchResponse
}

func (s *mutatedStream) SendMsg(msg any) error {
	return s.ClientStream.SendMsg(s.m.falsify(s.armed, msg))
}

func (s *mutatedStream) RecvMsg(msg any) error {
	if w, ok := msg.(*pb.WatchResponse); ok && s.again != nil {
		w.Header, w.WatchId, w.Events = s.again.Header, s.again.WatchId, s.again.Events
		s.again = nil
		return nil
	}
	for {
		if err := s.ClientStream.RecvMsg(msg); err != nil || !s.armed.Load() {
			return err
		}
		w, isWatch := msg.(*pb.WatchResponse)
		switch {
		case s.m.reply != nil && s.m.reply(msg):
		case isWatch && s.m.drop != nil && s.m.drop(w):
			s.armed.Store(false)
			continue
		case isWatch && s.m.twice != nil && s.m.twice(w):
			s.again = proto.Clone(w).(*pb.WatchResponse)
		default:
			return nil
		}
		s.armed.Store(false)
		return nil
	}
}

// TestReduce reduces a long sequence to the one operation that matters, and its request to the one field that matters.
func TestReduce(t *testing.T) {
	var ops []Op
	for n := range uint64(40) {
		g := NewGenerator(9, n)
		ops = append(ops, g.write())
	}
	culprit, err := ParseOp("Txn compare:{key:'a'} success:{request_put:{key:'x' value:'v' prev_kv:true}} " +
		"success:{request_put:{key:'culprit' value:'v'}}")
	if err != nil {
		t.Fatal(err)
	}
	ops = append(ops[:25:25], append([]Op{culprit}, ops[25:]...)...)
	got := Reduce(ops, time.Now().Add(time.Minute), func(ops []Op) bool {
		for _, op := range ops {
			if txn, ok := op.Req.(*pb.TxnRequest); ok {
				for _, s := range txn.GetSuccess() {
					if string(s.GetRequestPut().GetKey()) == "culprit" {
						return true
					}
				}
			}
		}
		return false
	})
	want := "Txn success:{request_put:{key:'culprit'}}"
	if len(got) != 1 || got[0].String() != want {
		t.Fatalf("reduced to %v, want %s", got, want)
	}
}

// TestOpText checks that sequences survive their text form.
func TestOpText(t *testing.T) {
	for n := range uint64(300) {
		g := NewGenerator(3, n)
		s := State{Head: 20, Compacted: 4, Leases: 2, Streams: map[int][]int64{0: {0, 3}}}
		for {
			op, ok := g.Next(s)
			if !ok {
				break
			}
			again, err := ParseOp(op.String())
			if err != nil {
				t.Fatal(err)
			}
			if again.String() != op.String() {
				t.Fatalf("%s became %s", op, again)
			}
		}
	}
}
