package migrate

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watched is a client whose watches show what a test sends.
type watched struct {
	clientv3.Watcher
	ctx    context.Context
	events chan clientv3.WatchResponse
}

// Watch implements clientv3.Watcher.
func (w *watched) Watch(ctx context.Context, _ string, _ ...clientv3.OpOption) clientv3.WatchChan {
	w.ctx = ctx
	return w.events
}

// TestTailOverflow: a tail that holds too much ends its watch, whose client would go on holding what nobody takes. What
// has been held is still there.
func TestTailOverflow(t *testing.T) {
	w := &watched{events: make(chan clientv3.WatchResponse)}
	tail := NewSource(&clientv3.Client{Watcher: w}).tail(t.Context(), 2, "")
	defer tail.close()
	value, sent := make([]byte, tailBytes/8), int64(0)
	for ended := false; !ended; {
		kv := &mvccpb.KeyValue{Key: []byte("k"), Value: value, ModRevision: sent + 2}
		select {
		case w.events <- clientv3.WatchResponse{Events: []*clientv3.Event{{Kv: kv}}}:
			sent++
		case <-tail.ended:
			ended = true
		}
	}
	if w.ctx.Err() == nil {
		t.Error("the watch goes on")
	}
	if sent != 8 {
		t.Errorf("%d revisions are held", sent)
	}
	for rev := int64(2); rev < sent+2; rev++ {
		if got, err := tail.next(t.Context(), rev-1); err != nil || len(got) != 1 || got[0].GetRevision() != rev {
			t.Fatalf("revision %d: %d, %v", rev, len(got), err)
		}
	}
	if _, err := tail.next(t.Context(), sent+1); !errors.Is(err, errOverflow) {
		t.Error(err)
	}
}
