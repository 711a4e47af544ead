package etcdapi

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/wire"
)

// gathered takes room for an answer of n bytes in steps, as often as it must.
func gathered(ctx context.Context, a *Answers, n int, step func()) (*answer, error) {
	w := &answer{all: a}
	_, err := answering(ctx, w, func() (encoded, error) {
		for left := n; left > 0; left -= answerStep {
			if err := w.grow(min(left, answerStep)); err != nil {
				return nil, err
			}
			step()
		}
		return nil, nil
	})
	return w, err
}

func nothing() {}

// TestAnswersWait: who finds no room waits for it, in order; after answerWait it is refused. Small answers do not
// wait for large ones.
func TestAnswersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAnswers(64 << 20)
		first, err := gathered(t.Context(), a, 60<<20, nothing)
		if err != nil {
			t.Fatal(err)
		}
		type outcome struct {
			w   *answer
			err error
		}
		second, third := make(chan outcome, 1), make(chan outcome, 1)
		start := func(to chan outcome, n int) {
			go func() {
				w, err := gathered(t.Context(), a, n, nothing)
				to <- outcome{w, err}
			}()
			synctest.Wait()
		}
		start(second, 30<<20)
		start(third, 5<<20) // there would be room for it before the second, but it came later
		if small, err := gathered(t.Context(), a, smallAnswer, nothing); err != nil {
			t.Errorf("a small one: %v", err)
		} else {
			small.drop()
		}
		if len(second)+len(third) > 0 {
			t.Error("they did not wait")
		}
		time.Sleep(answerWait / 2)
		first.drop()
		second2, third2 := <-second, <-third
		if second2.err != nil || third2.err != nil {
			t.Fatal(second2.err, third2.err)
		}
		third2.w.drop()

		begin := time.Now()
		if _, err := gathered(t.Context(), a, 60<<20, nothing); !errors.Is(err, mvcc.ErrTooManyRequests) ||
			time.Since(begin) != answerWait {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := gathered(ctx, a, 60<<20, nothing); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a client that goes: %v", err)
		}
		second2.w.drop()
		// It has all the room for itself, and more than that.
		if w, err := gathered(t.Context(), a, 100<<20, nothing); err != nil {
			t.Errorf("larger than all the room: %v", err)
		} else {
			w.drop()
		}
		if n := a.Used(); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}

// TestAnswersEnd: whatever sizes meet, all answers are gathered, and what they hold together stays within the room.
func TestAnswersEnd(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	synctest.Test(t, func(t *testing.T) {
		const room = 32 << 20
		a := NewAnswers(room)
		var wg sync.WaitGroup
		var refused atomic.Int64
		for c := range 40 {
			r := rand.New(rand.NewPCG(seed, uint64(c)))
			wg.Go(func() {
				for range 20 {
					n := 1 + r.IntN(1<<(13+r.IntN(12))) // up to 16 MiB
					w, err := gathered(t.Context(), a, n, func() {
						runtime.Gosched()
						if used := a.Used(); used > room+room/smallRoom {
							t.Errorf("%d bytes under way", used)
						}
					})
					if err != nil {
						refused.Add(1)
						continue
					}
					if left := w.hold.left(); n > freeAnswer && left < int64(n) {
						t.Errorf("%d bytes hold %d", n, left)
					}
					time.Sleep(time.Millisecond) // it is sent
					w.drop()
				}
			})
		}
		wg.Wait()
		if a.Used() != 0 || refused.Load() > 0 {
			t.Errorf("%d bytes are left, %d refused", a.Used(), refused.Load())
		}
	})
}

// bigStore answers with values of 1 MiB: one for a key, bigKeys of them for all else.
type bigStore struct{ value []byte }

const bigKeys = 64

func (s *bigStore) Range(ctx context.Context, r *mvcc.RangeRequest, visit mvcc.Visit) (mvcc.RangeInfo, error) {
	for i := range bigKeys {
		kv := mvcc.KV{Key: []byte{'a', byte(i)}, Value: s.value}
		if bytes.Compare(kv.Key, r.Key) < 0 {
			continue // a later chunk of a stream
		}
		if err := visit(&kv); err != nil {
			return mvcc.RangeInfo{}, err
		}
		if len(r.End) == 0 {
			break
		}
	}
	return mvcc.RangeInfo{Rev: 1, Count: bigKeys}, nil
}

func (s *bigStore) result(hold mvcc.Hold) (*mvcc.Result, error) {
	res := &mvcc.Result{Rev: 1}
	for i := range bigKeys {
		if err := hold(len(s.value)); err != nil {
			return nil, err
		}
		res.Prev = append(res.Prev, mvcc.KV{Key: []byte{byte(i)}, Value: s.value})
	}
	return res, nil
}

func (s *bigStore) Put(_ context.Context, r *mvcc.PutRequest) (*mvcc.Result, error) {
	return s.result(r.Hold)
}

func (s *bigStore) DeleteRange(_ context.Context, r *mvcc.DeleteRequest) (*mvcc.Result, error) {
	return s.result(r.Hold)
}

func (s *bigStore) Txn(_ context.Context, r *mvcc.TxnRequest) (*mvcc.Result, error) {
	res, err := s.result(r.Hold)
	if err != nil {
		return nil, err
	}
	return &mvcc.Result{Rev: 1, Ops: []mvcc.OpResult{{Kind: mvcc.OpDelete, Result: *res}}}, nil
}

func (s *bigStore) Compact(context.Context, int64, bool) (int64, error) { return 1, nil }

// TestAnswersGiveBack: what an answer holds comes back when it has been read, when its stream is cancelled, and when
// its connection breaks; until then it is held. Each kind of answer.
func TestAnswersGiveBack(t *testing.T) {
	all := &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}}
	del := &pb.DeleteRangeRequest{Key: []byte("a"), PrevKv: true}
	for name, c := range map[string]struct {
		method string
		req    any
		held   int64 // while nobody reads
	}{
		"range":        {"Range", all, (bigKeys - 2) << 20},
		"one key":      {"Range", &pb.RangeRequest{Key: []byte("a")}, 1 << 20},
		"range stream": {"RangeStream", all, 1 << 20},
		"put":          {"Put", &pb.PutRequest{Key: []byte("a"), PrevKv: true}, bigKeys << 20},
		"delete":       {"DeleteRange", del, bigKeys << 20},
		"txn":          {"Txn", &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}}}}, bigKeys << 20},
	} {
		t.Run(name, func(t *testing.T) {
			a := NewAnswers(DefaultAnswerBytes)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}), grpc.MaxSendMsgSize(answerMax))
			RegisterKV(server, &bigStore{value: make([]byte, 1<<20)}, testHeader, KVOptions{Answers: a})
			served := make(chan struct{})
			go func() {
				defer close(served)
				_ = server.Serve(listener)
			}()
			defer func() {
				server.Stop()
				<-served
			}()
			open := func(ctx context.Context) (*grpc.ClientConn, grpc.ClientStream) {
				conn, err := grpc.NewClient(listener.Addr().String(),
					grpc.WithTransportCredentials(insecure.NewCredentials()),
					grpc.WithStaticStreamWindowSize(64<<10), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(answerMax), grpc.ForceCodecV2(wire.Codec{})))
				if err != nil {
					t.Fatal(err)
				}
				s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/etcdserverpb.KV/"+c.method)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(s.SendMsg(c.req), s.CloseSend()); err != nil {
					t.Fatal(err)
				}
				waitUntil(t, func() bool { return a.Used() >= c.held }) // the window lets 64 KiB through
				return conn, s
			}
			closed := func(conn *grpc.ClientConn) {
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			}
			conn, s := open(t.Context())
			for {
				var f wire.Frame
				if err := s.RecvMsg(&f); err != nil {
					break
				}
				f.Free()
			}
			waitUntil(t, func() bool { return a.Used() == 0 })
			closed(conn)

			ctx, cancel := context.WithCancel(t.Context())
			conn, _ = open(ctx)
			cancel()
			waitUntil(t, func() bool { return a.Used() == 0 })
			closed(conn)

			conn, _ = open(t.Context())
			closed(conn)
			waitUntil(t, func() bool {
				runtime.GC()
				return a.Used() == 0
			})
		})
	}
}

// TestAnswersRefused: what finds no room is refused as etcd would, and has not been gathered.
func TestAnswersRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAnswers(32 << 20)
		held, err := gathered(t.Context(), a, 30<<20, nothing)
		if err != nil {
			t.Fatal(err)
		}
		s := &kvServer{
			store: &bigStore{value: make([]byte, 1<<20)}, header: newHeaderCodec(testHeader),
			o: KVOptions{Answers: a, MaxRequestBytes: 1 << 20, MaxTxnOps: 10},
		}
		unread := &sink{}
		all := mvcc.RangeRequest{Key: []byte("a"), End: []byte{0}}
		put := mvcc.PutRequest{Key: []byte("a"), PrevKV: true}
		del := mvcc.DeleteRequest{Key: []byte("a"), PrevKV: true}
		for name, f := range map[string]func() (encoded, error){
			"range": func() (encoded, error) { return s.rangeKeys(t.Context(), &rangeRequest{RangeRequest: all}) },
			"range stream": func() (encoded, error) {
				unread.req = all
				return nil, s.rangeStream(unread)
			},
			"put":    func() (encoded, error) { return s.put(t.Context(), &putRequest{PutRequest: put}) },
			"delete": func() (encoded, error) { return s.deleteRange(t.Context(), &deleteRequest{DeleteRequest: del}) },
			"txn": func() (encoded, error) {
				return s.txn(t.Context(), &txnRequest{TxnRequest: mvcc.TxnRequest{Success: []mvcc.Op{{Delete: &del}}}})
			},
		} {
			_, err := f()
			if status.Code(Err(err)) != codes.ResourceExhausted {
				t.Errorf("%s: %v", name, err)
			}
			for _, e := range unread.sent { // as if it had been sent
				mem.BufferSlice(e).Free()
			}
			unread.sent = nil
			if extra := a.Used() - held.hold.left(); extra != 0 {
				t.Errorf("%s: %d bytes are held", name, extra)
			}
		}
		held.drop()
	})
}

// TestAnswerBuffers: the buffers of an answer give back all that it holds, in any order.
func TestAnswerBuffers(t *testing.T) {
	a := NewAnswers(1 << 30)
	for _, sizes := range [][]int{{100}, {8 << 10}, {100 << 10, 100, 3 << 20}, {1 << 20, 1 << 20, 1 << 20}} {
		w := &answer{all: a}
		var bufs []*[]byte
		for _, n := range sizes {
			if err := w.grow(n); err != nil {
				t.Fatal(err)
			}
			bufs = append(bufs, mem.DefaultBufferPool().Get(n))
		}
		e := w.sent(nil, bufs...)
		for _, i := range rand.Perm(len(e)) {
			e[i].Free()
		}
		if a.Used() != 0 {
			t.Errorf("%v: %d bytes are left", sizes, a.Used())
		}
	}
}

func waitUntil(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("condition not reached")
		}
	}
}
