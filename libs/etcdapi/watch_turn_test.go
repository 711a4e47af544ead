package etcdapi

import (
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/fair"
	"github.com/headwaterdb/headwater/libs/watch"
)

// TestWatchInTurn: a client that does not read keeps no turn while its stream waits for it: with one place at the gate
// others get all of their events.
func TestWatchInTurn(t *testing.T) {
	checkLeaks(t)
	g := fair.NewGate(1, 64<<10)
	s := newWatchServer()
	s.serve(t, watch.Options{}, WatchOptions{Turn: g.Flow(1)})
	deaf, reader := s.stream(t), s.stream(t)
	for _, c := range []watchClient{deaf, reader} {
		c.create(&pb.WatchCreateRequest{Key: []byte("k")})
		c.recv()
	}
	const events = 40
	value := strings.Repeat("v", 100<<10)
	for i := range events {
		s.log.commit(watchOp{"k", fmt.Sprint(i, value)})
		for got := 0; got < 1; {
			got += len(reader.recv().Events)
		}
	}
	for got := 0; got < events; {
		got += len(deaf.recv().Events)
	}
	if n := g.Waiting(); n != 0 {
		t.Errorf("%d streams wait", n)
	}
}
