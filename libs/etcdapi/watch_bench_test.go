package etcdapi

import (
	"fmt"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wire"
)

// BenchmarkWatchFanOut: watches with prev_kv on one prefix, through gRPC with a client that only counts events. One
// op is one event to all; client and server share the CPUs. paced waits for each event to arrive everywhere, so that
// every response has one event; otherwise the writer runs ahead and responses carry many.
func BenchmarkWatchFanOut(b *testing.B) {
	for _, paced := range []bool{true, false} {
		for _, streams := range []int{1, 10} {
			perStream := 1
			if streams > 1 {
				perStream = 100
			}
			b.Run(fmt.Sprintf("watches=%d/paced=%t", streams*perStream, paced), func(b *testing.B) {
				benchFanOut(b, streams, perStream, paced)
			})
		}
	}
}

func benchFanOut(b *testing.B, streams, perStream int, paced bool) {
	s := startWatch(b, watch.Options{}, WatchOptions{})
	arrived := make(chan struct{}, 1024)
	var wg sync.WaitGroup
	for range streams {
		c, err := pb.NewWatchClient(s.conn).Watch(b.Context(), grpc.ForceCodecV2(countCodec{}))
		if err != nil {
			b.Fatal(err)
		}
		for range perStream {
			r := watchPrefix("k")
			r.PrevKv = true
			watchClient{b, c}.create(r)
			watchClient{b, c}.recv()
		}
		wg.Go(func() {
			n := 0
			for left := b.N * perStream; left > 0; {
				r, err := c.Recv()
				if err != nil {
					b.Error(err)
					return
				}
				got := int(r.WatchId) // the number of events, from countCodec
				left -= got
				for n += got; paced && n >= perStream; n -= perStream {
					arrived <- struct{}{}
				}
			}
		})
	}
	value := string(make([]byte, 256))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		s.log.commit(watchOp{"k", value})
		for i := 0; paced && i < streams; i++ {
			<-arrived
		}
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N*streams*perStream)/b.Elapsed().Seconds(), "events/s")
}

// countCodec keeps the client cheap: instead of decoding it sets WatchId to the number of events.
type countCodec struct{ wire.Codec }

func (countCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer b.Free()
	n := 0
	for d := b.ReadOnlyData(); len(d) > 0; {
		tag := d[0]
		if d = d[1:]; tag&7 == 0 {
			for d[0] >= 0x80 {
				d = d[1:]
			}
			d = d[1:]
			continue
		}
		size, shift := 0, 0
		for ; d[0] >= 0x80; shift += 7 {
			size |= int(d[0]&0x7f) << shift
			d = d[1:]
		}
		size |= int(d[0]) << shift
		d = d[1+size:]
		if tag>>3 == 11 {
			n++
		}
	}
	v.(*pb.WatchResponse).WatchId = int64(n)
	return nil
}
