package etcdapi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wire"
)

// randomTurn is a turn with events of sizes from none to more than a write.
func randomTurn(t *testing.T, rnd *rand.Rand) []watch.Response {
	t.Helper()
	var entries []revlog.Entry
	for rev := range int64(1 + rnd.IntN(20)) {
		kv := revlog.KV{
			Key: []byte("k"), Value: make([]byte, rnd.IntN(1<<rnd.IntN(18))), Mod: rev + 2, Create: 2, Version: rev + 1,
		}
		entries = append(entries,
			revlog.Entry{Rev: rev + 2, Events: []revlog.Event{{KV: kv, Prev: kv, HasPrev: rnd.IntN(2) == 0}}})
	}
	h := watch.New(watch.Options{})
	defer h.Close()
	h.Start(newWatchServer().log, 1)
	s, err := h.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	watches := 1 + rnd.IntN(5)
	for range watches {
		err := s.Create(t.Context(), watch.CreateRequest{
			Key: []byte("k"), PrevKV: rnd.IntN(2) == 0, Fragment: rnd.IntN(2) == 0,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	h.Apply(entries)
	var all []watch.Response
	for left := watches * len(entries); left > 0; {
		turn, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range turn {
			left -= len(turn[i].Events)
		}
		all = append(all, turn...)
	}
	return append(all, watch.Response{
		WatchID: -1, Revision: 9, Created: true, Canceled: true, CancelReason: "etcdserver: too many requests",
	})
}

// TestWriteBuffer: the bytes of a write are the messages that the codec would send, each behind its prefix.
func TestWriteBuffer(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	enc := newWatchEncoder(watchTestHeader)
	for range 50 {
		var b writeBuffer
		turn := randomTurn(t, rnd)
		for len(turn) > 0 {
			n := 1 + rnd.IntN(len(turn))
			var want []byte
			b.expect(rnd.IntN(2 * n))
			for i := range turn[:n] {
				err := enc.split(&turn[i], 1<<rnd.IntN(20), func(m watchMessage) error {
					b.add(enc, m)
					alone, err := enc.encode(m).MarshalWire()
					want = binary.BigEndian.AppendUint32(append(want, 0), uint32(alone.Len()))
					want = append(want, alone.Materialize()...)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			size, first := b.size, b.last
			data, messages := b.take()
			if got := data.Materialize(); !bytes.Equal(got, want) || size != len(want) || messages == 0 {
				t.Fatalf("%d messages in %d B (counted %d), want %d B; last write %d", messages, len(got), size,
					len(want), first)
			}
			if b.size != 0 || b.messages != 0 || b.data != nil || b.text != nil {
				t.Fatalf("a buffer keeps %+v", b)
			}
			turn = turn[n:]
		}
	}
}

// plainStream is a stream of a kind that takes one message at a time.
type plainStream struct{ grpc.ServerStream }

// countingServer counts bytes as package server does.
type countingServer struct {
	*grpc.Server
	past *atomic.Int64
}

func (c countingServer) AddSent(_ string, _, bytes int) { c.past.Add(int64(bytes)) }

type countingCodec struct {
	wire.Codec
	sent *atomic.Int64
}

func (c countingCodec) Marshal(v any) (b mem.BufferSlice, err error) {
	b, err = c.Codec.Marshal(v)
	c.sent.Add(int64(b.Len()))
	return b, err
}

// TestWatchSendBothWays: a client gets the same, and as many bytes are counted, whether responses go in few writes or
// one by one.
func TestWatchSendBothWays(t *testing.T) {
	var texts [2]string
	var counted [2]int64
	for i, plain := range []bool{false, true} {
		var codec, past atomic.Int64
		opts := []grpc.ServerOption{grpc.ForceServerCodecV2(countingCodec{sent: &codec})}
		if plain {
			opts = append(opts, grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo,
				h grpc.StreamHandler,
			) error {
				return h(srv, plainStream{s})
			}))
		}
		s := newWatchServer()
		s.newServer = func() (*grpc.Server, grpc.ServiceRegistrar) {
			srv := grpc.NewServer(opts...)
			return srv, countingServer{srv, &past}
		}
		s.serve(t, watch.Options{}, WatchOptions{})
		c := s.stream(t)
		var received int64
		recv := func() *pb.WatchResponse {
			r := c.recv()
			received += int64(proto.Size(r))
			return r
		}
		for j := range 30 {
			r := watchPrefix("k")
			r.PrevKv = j%2 == 0
			c.create(r)
			recv()
		}
		s.log.commit(watchOp{"k1", "small"}, watchOp{"k2", string(make([]byte, 5000))})
		s.log.commit(watchOp{"k1", string(make([]byte, 200_000))})
		byWatch := map[int64][]string{}
		for events := 0; events < 30*3; {
			r := recv()
			for _, ev := range r.Events {
				byWatch[r.WatchId] = append(byWatch[r.WatchId],
					fmt.Sprint(ev.Kv.ModRevision, len(ev.Kv.Value), ev.PrevKv.GetModRevision()))
				events++
			}
		}
		texts[i], counted[i] = fmt.Sprint(byWatch), codec.Load()+past.Load()
		if counted[i] != received {
			t.Errorf("plain %t: counted %d B, the client got %d B", plain, counted[i], received)
		}
		if wrote := past.Load() > 0; wrote == plain {
			t.Errorf("plain %t: %d B went past the codec", plain, past.Load())
		}
	}
	if texts[0] != texts[1] {
		t.Errorf("in few writes %s\none by one %s", texts[0], texts[1])
	}
}
