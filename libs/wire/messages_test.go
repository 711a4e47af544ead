package wire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/wire"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// raw is a message of any bytes.
type raw struct{ b []byte }

func (r *raw) MarshalWire() (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(r.b)}, nil
}

func (r *raw) UnmarshalWire(b []byte) error {
	r.b = b
	return nil
}

var streamDesc = grpc.StreamDesc{StreamName: "S", ServerStreams: true, ClientStreams: true}

// stream serves handler and opens a stream to it.
func stream(t *testing.T, handler func(grpc.ServerStream) error, server []grpc.ServerOption,
	call ...grpc.CallOption,
) (c grpc.ClientStream, cancel func()) {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(append(server, grpc.ForceServerCodecV2(wire.Codec{}))...)
	d := streamDesc
	d.Handler = func(_ any, s grpc.ServerStream) error { return handler(s) }
	srv.RegisterService(&grpc.ServiceDesc{ServiceName: "t", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{d}},
		nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	conn, err := grpc.NewClient("passthrough:///t", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithInitialWindowSize(65535), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		srv.Stop()
		<-done
	})
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	if c, err = conn.NewStream(ctx, &streamDesc, "/t/S", call...); err != nil {
		t.Fatal(err)
	}
	// EOF: the handler has ended already, which RecvMsg tells.
	if err := c.SendMsg(&raw{}); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return c, stop
}

// poisonPool hands out buffers and spoils what it gets back, so that whoever still reads it sends something else.
type poisonPool struct{ out atomic.Int64 }

func (p *poisonPool) Get(n int) *[]byte {
	p.out.Add(1)
	b := make([]byte, n)
	return &b
}

func (p *poisonPool) Put(b *[]byte) {
	p.out.Add(-1)
	all := (*b)[:cap(*b)]
	for i := range all {
		all[i] = 0xdb
	}
}

// cut makes one write of messages: their bytes, with prefixes, in buffers of random sizes, some of the pool and some
// not.
func cut(rnd *rand.Rand, pool *poisonPool, messages [][]byte) (data mem.BufferSlice) {
	var all []byte
	for _, m := range messages {
		all = append(all, make([]byte, wire.PrefixBytes)...)
		wire.PutPrefix(all[len(all)-wire.PrefixBytes:], len(m))
		all = append(all, m...)
	}
	for len(all) > 0 {
		n := min(len(all), 1+rnd.IntN(1<<rnd.IntN(16)))
		if rnd.IntN(2) == 0 {
			b := pool.Get(max(n, 2048))
			copy(*b, all[:n])
			root := mem.NewBuffer(b, pool)
			data = append(data, root.Slice(0, n))
			root.Free()
		} else {
			data = append(data, mem.SliceBuffer(bytes.Clone(all[:n])))
		}
		all = all[n:]
	}
	return data
}

// message is what message i of a run must be.
func message(seed uint64, i int) []byte {
	rnd := rand.New(rand.NewPCG(seed, uint64(i)))
	b := make([]byte, rnd.IntN(1<<rnd.IntN(18)))
	for j := range b {
		b[j] = byte(rnd.Uint32())
	}
	return b
}

// TestMessageWriter: what is written in any mixture of Write and SendMsg arrives, in order; afterwards nobody holds a
// buffer. It fails if a new grpc-go has not got what the writer needs: then watches are slow, and MessageWriter has
// to be adapted.
func TestMessageWriter(t *testing.T) {
	needsPrivate(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const messages = 500
	pool := &poisonPool{}
	ended := make(chan struct{})
	c, _ := stream(t, func(s grpc.ServerStream) error {
		defer close(ended)
		w := wire.NewMessageWriter(s)
		if w == nil {
			return errors.New("no writer for a stream of grpc-go's own")
		}
		rnd := rand.New(rand.NewPCG(seed, 1<<32))
		for i := 0; i < messages; {
			if rnd.IntN(3) == 0 {
				if err := s.SendMsg(&raw{message(seed, i)}); err != nil {
					return err
				}
				i++
				continue
			}
			var batch [][]byte
			for n := min(1+rnd.IntN(20), messages-i); n > 0; n-- {
				batch = append(batch, message(seed, i))
				i++
			}
			if err := w.Write(cut(rnd, pool, batch)); err != nil {
				return err
			}
		}
		return status.Error(codes.DataLoss, "the end")
	}, nil)
	for i := range messages {
		var m raw
		if err := c.RecvMsg(&m); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if !bytes.Equal(m.b, message(seed, i)) {
			t.Fatalf("message %d of %d B differs", i, len(m.b))
		}
	}
	if err := c.RecvMsg(&raw{}); status.Code(err) != codes.DataLoss {
		t.Error("end:", err)
	}
	<-ended
	if n := pool.out.Load(); n != 0 {
		t.Errorf("%d buffers were not given back", n)
	}
}

// TestMessageWriterBlocks: a client that does not read holds Write up as it holds SendMsg up; when it goes, Write
// fails.
func TestMessageWriterBlocks(t *testing.T) {
	needsPrivate(t)
	const size = 32 << 10
	var sent atomic.Int64
	failed := make(chan error, 1)
	full := make(chan struct{})
	c, cancel := stream(t, func(s grpc.ServerStream) error {
		w := wire.NewMessageWriter(s)
		for {
			b := make([]byte, wire.PrefixBytes+size)
			wire.PutPrefix(b, size)
			if err := w.Write(mem.BufferSlice{mem.SliceBuffer(b)}); err != nil {
				failed <- err
				return err
			}
			if sent.Add(size) == 128<<10 { // what the windows and the transport's quota of 64 KiB take, or less
				close(full)
			}
		}
	}, nil)
	<-full
	cancel()
	if err := <-failed; status.Code(err) != codes.Canceled {
		t.Error("Write of a stream whose client went:", err)
	}
	if n := sent.Load(); n > 4<<20 {
		t.Errorf("a client that reads nothing was sent %d B", n)
	}
	if err := c.RecvMsg(&raw{}); status.Code(err) != codes.Canceled && !errors.Is(err, io.EOF) && err != nil {
		t.Error(err)
	}
}

// wrapped is what interceptors make of a stream.
type wrapped struct{ grpc.ServerStream }

// TestNoMessageWriter: streams that need SendMsg have no writer.
func TestNoMessageWriter(t *testing.T) {
	wrap := grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo,
		h grpc.StreamHandler,
	) error {
		return h(srv, wrapped{s})
	})
	for name, x := range map[string]struct {
		server []grpc.ServerOption
		call   []grpc.CallOption
		want   bool
	}{
		"plain":      {want: wire.Private},
		"wrapped":    {server: []grpc.ServerOption{wrap}},
		"compressed": {call: []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := stream(t, func(s grpc.ServerStream) error {
				if got := wire.NewMessageWriter(s) != nil; got != x.want {
					return status.Errorf(codes.Internal, "writer: %t", got)
				}
				return s.SendMsg(&raw{[]byte("ok")})
			}, x.server, x.call...)
			var m raw
			if err := c.RecvMsg(&m); err != nil || string(m.b) != "ok" {
				t.Errorf("%q, %v", m.b, err)
			}
		})
	}
}

// needsPrivate skips a test of what a binary with the tag publicapi has not got.
func needsPrivate(t *testing.T) {
	t.Helper()
	if !wire.Private {
		t.Skip("built with the tag publicapi")
	}
}
