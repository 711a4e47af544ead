package etcdapi

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch"
)

// apartStore has the values that the entries of a hub only name.
type apartStore struct {
	watch.Log
	mu     sync.Mutex
	values map[string][]byte
}

func (l *apartStore) key(kv *revlog.KV) string { return fmt.Sprintf("%s %d", kv.Key, kv.Mod) }

// name takes the values out of entries.
func (l *apartStore) name(entries []revlog.Entry) (named []revlog.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		e.Events = append([]revlog.Event(nil), e.Events...)
		for i := range e.Events {
			for _, kv := range []*revlog.KV{&e.Events[i].KV, &e.Events[i].Prev} {
				if len(kv.Value) > 0 {
					l.values[l.key(kv)] = kv.Value
					kv.Place, kv.Size, kv.Value = revlog.PlaceOwn, len(kv.Value), nil
				}
			}
		}
		named = append(named, e)
	}
	return named
}

func (l *apartStore) ReadValues(_ context.Context, kvs []*revlog.KV) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := make([][]byte, len(kvs))
	for i, kv := range kvs {
		got[i] = l.values[l.key(kv)]
	}
	return got, nil
}

func (l *apartStore) HoldValues(context.Context) (watch.ValueReader, func(), error) {
	return l, func() {}, nil
}

// TestWatchApart: what is read piece by piece while it is sent is what would be sent from memory, whatever the watch
// wants, in one message or in fragments, compressed or not.
func TestWatchApart(t *testing.T) {
	const turnBytes = 10_000 // so that a message has many pieces
	for _, compressed := range []bool{false, true} {
		t.Run(fmt.Sprint("compressed=", compressed), func(t *testing.T) {
			var opts []grpc.CallOption
			if compressed {
				opts = append(opts, grpc.UseCompressor(gzip.Name))
			}
			plain := startWatch(t, watch.Options{TurnBytes: turnBytes}, WatchOptions{MaxRequestBytes: 1})
			apart := newWatchServer()
			store := &apartStore{Log: apart.log, values: map[string][]byte{}}
			apart.store = store
			apart.serve(t, watch.Options{StreamBytes: 1000, TurnBytes: turnBytes}, WatchOptions{MaxRequestBytes: 1})
			feed := apart.log.feed
			apart.log.feed = func(e []revlog.Entry) { feed(store.name(e)) }
			var clients [2]watchClient
			for i, s := range []*watchServer{plain, apart} {
				c, err := pb.NewWatchClient(s.conn).Watch(t.Context(), opts...)
				if err != nil {
					t.Fatal(err)
				}
				clients[i] = watchClient{t, c}
				for _, r := range []*pb.WatchCreateRequest{
					{},
					{PrevKv: true},
					{PrevKv: true, Fragment: true},
					{PrevKv: true, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}},
				} {
					r.Key, r.RangeEnd = []byte("k"), []byte("l")
					clients[i].create(r)
					clients[i].recv()
				}
			}
			const keys = 40
			var puts, deletes []watchOp
			for i := range keys {
				key := fmt.Sprintf("k%02d", i)
				puts = append(puts, watchOp{key, strings.Repeat(key, 1+i*i*10)})
				deletes = append(deletes, watchOp{key, opDeleted})
			}
			for _, ops := range [][]watchOp{puts, puts, deletes, puts[:1], deletes[:1]} {
				plain.log.commit(ops...)
				apart.log.commit(ops...)
				for left := expected(ops); left > 0; {
					want, got := clients[0].recv(), clients[1].recv()
					if !proto.Equal(want, got) {
						t.Fatalf("watch %d: %d events, %d bytes instead of watch %d: %d events, %d bytes",
							got.WatchId, len(got.Events), proto.Size(got),
							want.WatchId, len(want.Events), proto.Size(want))
					}
					left -= len(want.Events)
				}
			}
		})
	}
}

// expected is how many events the four watches get of ops.
func expected(ops []watchOp) int {
	if ops[0].value == opDeleted {
		return 4 * len(ops)
	}
	return 3 * len(ops)
}

// TestWatchApartGone: a stream whose message cannot be finished ends with what makes clients resume.
func TestWatchApartGone(t *testing.T) {
	checkLeaks(t)
	s := newWatchServer()
	store := &apartStore{Log: s.log, values: map[string][]byte{}}
	s.store = store
	s.serve(t, watch.Options{StreamBytes: 1000}, WatchOptions{})
	feed := s.log.feed
	s.log.feed = func(e []revlog.Entry) {
		named := store.name(e)
		delete(store.values, "k2 2")
		feed(named)
	}
	c := s.stream(t)
	r := watchPrefix("k")
	r.PrevKv = true
	c.create(r)
	c.recv()
	big := strings.Repeat("v", 2<<20)
	s.log.commit(watchOp{"k1", big}, watchOp{"k2", big})
	_, err := c.Recv()
	if code := status.Code(err); code != codes.Internal && code != codes.Unavailable {
		t.Errorf("%v", err)
	}
}
