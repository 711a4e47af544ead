package hostile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"

	"github.com/headwaterdb/headwater/tests/internal/attack"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

// holds are the ways in which a client can keep a server busy. Each function returns when it has begun, and goes on
// until its context ends.
var holds = map[string]func(context.Context, *testing.T, *hw.Server, *clientv3.Client){
	"silent":                say(""),
	"half a preface":        say(attack.Preface[:10]),
	"preface alone":         say(attack.Preface),
	"half a frame":          say(attack.Preface + attack.Settings + "\x00\x10\x00\x00\x00\x00\x00\x00\x01data"),
	"half a header":         say("GET /health HTTP/1.1\r\nHost: "),
	"HTTP without its body": say("POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"),
	"unfinished put": func(ctx context.Context, t *testing.T, s *hw.Server, _ *clientv3.Client) {
		conn := dial(t, s)
		go func() {
			_, _ = attack.Call(ctx, conn, "/etcdserverpb.KV/Put", &attack.Body{Bytes: 1_000_000})
		}()
	},
	"unread watches": func(ctx context.Context, t *testing.T, _ *hw.Server, c *clientv3.Client) {
		w, err := pb.NewWatchClient(c.ActiveConnection()).Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		create := &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte("big/"), RangeEnd: []byte("big0"), StartRevision: 2,
		}}
		for range 8 {
			if err := w.Send(&pb.WatchRequest{RequestUnion: create}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Recv(); err != nil {
			t.Fatal(err)
		}
	},
	"unread lists": func(ctx context.Context, t *testing.T, _ *hw.Server, c *clientv3.Client) {
		for range 8 {
			r, err := pb.NewKVClient(c.ActiveConnection()).RangeStream(ctx, &pb.RangeRequest{
				Key: []byte("big/"), RangeEnd: []byte("big0"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Recv(); err != nil {
				t.Fatal(err)
			}
		}
	},
	"lock and campaign": func(ctx context.Context, t *testing.T, _ *hw.Server, c *clientv3.Client) {
		lease, err := c.Grant(ctx, 600)
		if err != nil {
			t.Fatal(err)
		}
		locks, elections := v3lockpb.NewLockClient(c.ActiveConnection()),
			v3electionpb.NewElectionClient(c.ActiveConnection())
		if _, err := locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("l"), Lease: int64(lease.ID)}); err != nil {
			t.Fatal(err)
		}
		if _, err := elections.Campaign(ctx, &v3electionpb.CampaignRequest{
			Name: []byte("e"), Lease: int64(lease.ID), Value: []byte("v"),
		}); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			other, err := c.Grant(ctx, 600)
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("l"), Lease: int64(other.ID)}) }()
			go func() {
				_, _ = elections.Campaign(ctx, &v3electionpb.CampaignRequest{
					Name: []byte("e"), Lease: int64(other.ID), Value: []byte("v"),
				})
			}()
		}
		// A client waits for the lock when its key exists.
		for n := int64(0); n < 18; {
			r, err := c.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err != nil {
				t.Fatal(err)
			}
			n = r.Count - 8 // without the keys of fill
		}
	},
	"keep-alives": func(ctx context.Context, t *testing.T, _ *hw.Server, c *clientv3.Client) {
		k, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Recv(); err != nil {
			t.Fatal(err)
		}
	},
}

func say(text string) func(context.Context, *testing.T, *hw.Server, *clientv3.Client) {
	return func(ctx context.Context, t *testing.T, s *hw.Server, _ *clientv3.Client) {
		conns, err := attack.Say(ctx, s.Endpoint(), 1, text)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conns.Close)
	}
}

// TestStop: whatever clients do, SIGTERM ends the server soon and with exit code 0.
func TestStop(t *testing.T) {
	for name, hold := range holds {
		if !t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T) time.Duration {
				t.Helper()
				s := run(t)
				c := client(t, s)
				fill(t, c, 8, 1<<20)
				hold(within(t), t, s, c)
				begin := time.Now()
				if err := s.Stop(); err != nil {
					t.Fatal(err)
				}
				return time.Since(begin)
			})
		}) {
			return // a server that does not end takes minutes for each
		}
	}
}

// TestRemoved: when the store's directory is removed under load, the server logs one line and ends with exit code 1.
func TestRemoved(t *testing.T) {
	for _, what := range []string{"store", "."} {
		t.Run(what, func(t *testing.T) {
			s := run(t)
			c := client(t, s)
			ctx := within(t)
			var wg sync.WaitGroup
			defer wg.Wait()
			for i := range 8 {
				wg.Go(func() {
					value := strings.Repeat("v", 100<<10)
					for {
						_, err := c.Put(ctx, string(rune('a'+i)), value)
						if err != nil && !errors.Is(err, rpctypes.ErrTimeout) {
							_ = c.Close()
							return
						}
					}
				})
			}
			dir := filepath.Join(s.DataDir(), what)
			for range 3 { // the server may make files meanwhile
				if os.RemoveAll(dir) == nil {
					break
				}
			}
			code, err := s.Wait(patience)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for line := range strings.Lines(s.Output()) {
				if !strings.HasPrefix(line, "{") {
					lines = append(lines, line)
				}
			}
			if code != 1 || len(lines) != 1 || !strings.HasPrefix(lines[0], "headwater: ") {
				t.Errorf("exit code %d, lines %q", code, lines)
			}
		})
	}
}
