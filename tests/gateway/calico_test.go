package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// calico is a client that is configured as in Calico's backend (libcalico-go/lib/backend/etcdv3).
type calico struct {
	*testing.T
	ctx context.Context
	*clientv3.Client
	log []string
}

func newCalico(ctx context.Context, t *testing.T, s *side, trust *tls.Config, user string) *calico {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"https://" + s.addr()}, TLS: trust, Username: user, Password: user, Logger: zap.NewNop(),
		DialTimeout: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &calico{t, ctx, c, nil}
}

// note records an answer without the fields that differ from server to server.
func (c *calico) note(what string, answer proto.Message, err error) {
	c.Helper()
	text := ""
	if err == nil {
		m := proto.Clone(answer)
		clean(m)
		b, err := prototext.MarshalOptions{}.Marshal(m)
		if err != nil {
			c.Fatal(err)
		}
		text = string(b)
	}
	c.log = append(c.log, fmt.Sprintf("%s: %s %v", what, text, err))
}

// clean removes from the header everything but the revision, which is the same on both sides.
func clean(m proto.Message) {
	if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok && h.GetHeader() != nil {
		header := h.GetHeader()
		header.ClusterId, header.MemberId, header.RaftTerm = 0, 0, 0
	}
	if w, ok := m.(*pb.WatchResponse); ok {
		w.WatchId = 0
	}
}

// guarded makes a change if the comparisons hold. Otherwise it reads the key.
func (c *calico) guarded(what, key string, then clientv3.Op, when ...clientv3.Cmp) int64 {
	c.Helper()
	r, err := c.Txn(c.ctx).If(when...).Then(then).Else(clientv3.OpGet(key)).Commit()
	c.note(what, (*pb.TxnResponse)(r), err)
	if err != nil {
		return 0
	}
	return r.Header.Revision
}

func (c *calico) list(what, prefix string, o ...clientv3.OpOption) int64 {
	c.Helper()
	r, err := c.Get(c.ctx, prefix, append(o, clientv3.WithPrefix())...)
	c.note(what, (*pb.RangeResponse)(r), err)
	if err != nil {
		return 0
	}
	return r.Header.Revision
}

// events records what a watch delivers until it has delivered n events.
func (c *calico) events(w clientv3.WatchChan, n int) {
	c.Helper()
	for n > 0 {
		r, ok := <-w
		if !ok || r.Err() != nil {
			c.note("watch", nil, fmt.Errorf("ended: %v, %v, %v", ok, r.Err(), r.CompactRevision))
			return
		}
		for _, e := range r.Events {
			kv, prev := "", ""
			if e.Kv != nil {
				kv = e.Kv.String()
			}
			if e.PrevKv != nil {
				prev = e.PrevKv.String()
			}
			c.log = append(c.log, fmt.Sprintln("event", e.Type, kv, "before:", prev))
			n--
		}
	}
}

// live makes the requests of calico-node, Felix and kube-controllers.
func (c *calico) live() {
	const dir = "/app/resources/v3/projectcalico.org/"
	node, pool := dir+"nodes/n1", dir+"ippools/p1"
	absent := func(key string) clientv3.Cmp { return clientv3.Compare(clientv3.Version(key), "=", 0) }
	at := func(key string, rev int64) clientv3.Cmp { return clientv3.Compare(clientv3.ModRevision(key), "=", rev) }
	from := c.list("list", dir)
	w := c.Watch(c.ctx, dir, clientv3.WithPrefix(), clientv3.WithRev(from+1), clientv3.WithPrevKV())
	rev := c.guarded("create", node, clientv3.OpPut(node, "1"), absent(node))
	c.guarded("create what is there", node, clientv3.OpPut(node, "2"), absent(node))
	c.guarded("update", node, clientv3.OpPut(node, "2"), at(node, rev))
	c.guarded("update of before", node, clientv3.OpPut(node, "3"), at(node, rev))
	c.guarded("update of nothing", pool, clientv3.OpPut(pool, "3"), at(pool, rev))
	lease, err := c.Grant(c.ctx, 300)
	if err != nil {
		c.Fatal(err)
	}
	status := "/app/felix/v2/no-region/host/n1/status"
	for _, v := range []string{"up", "still up"} {
		put, err := c.Put(c.ctx, status, v, clientv3.WithLease(lease.ID))
		c.note("status", (*pb.PutResponse)(put), err)
	}
	ttl, err := c.TimeToLive(c.ctx, lease.ID, clientv3.WithAttachedKeys())
	if err != nil || len(ttl.Keys) != 1 {
		c.Error(ttl, err)
	}
	if _, err := c.Revoke(c.ctx, lease.ID); err != nil {
		c.Error(err)
	}
	gone, err := c.Get(c.ctx, status)
	c.note("status after its lease", (*pb.RangeResponse)(gone), err)
	for i := range 20 {
		key := fmt.Sprintf("%sworkloadendpoints/w%d", dir, i)
		c.guarded("create", key, clientv3.OpPut(key, "w"), absent(key))
	}
	c.list("names with a beginning", dir+"workloadendpoints/w1")
	c.list("list of before", dir, clientv3.WithRev(rev))
	c.guarded("delete of before", node, clientv3.OpDelete(node, clientv3.WithPrevKV()), at(node, rev))
	c.guarded("delete", node, clientv3.OpDelete(node, clientv3.WithPrevKV()))
	c.guarded("delete again", node, clientv3.OpDelete(node, clientv3.WithPrevKV()))
	clean, err := c.Txn(c.ctx).If().Then(clientv3.OpDelete("/app/", clientv3.WithPrefix())).Commit()
	c.note("clean", (*pb.TxnResponse)(clean), err)
	c.events(w, 2+20+1+20)
	c.list("clean by now", "/app/")
	c.list("the future", dir, clientv3.WithRev(1<<40))
}

// late makes the requests of a watcher that comes back after a compaction: it lists again.
func (c *calico) late(root *calico) {
	head := c.list("list", "/app/")
	if _, err := root.Compact(c.ctx, head, clientv3.WithCompactPhysical()); err != nil {
		c.Fatal(err)
	}
	c.events(c.Watch(c.ctx, "/app/", clientv3.WithPrefix(), clientv3.WithRev(2), clientv3.WithPrevKV()), 1)
	c.list("what is compacted", "/app/", clientv3.WithRev(2))
	_, err := c.Put(c.ctx, "elsewhere", "")
	c.note("what it may not", nil, err)
	_, err = c.Get(c.ctx, "/", clientv3.WithPrefix())
	c.note("more than it may", nil, err)
}

// TestCalico: the requests that Calico sends to etcd through clientv3, with TLS and a user: changes in transactions,
// lists and watches by prefix, leases of statuses, and the recovery after a compaction.
func TestCalico(t *testing.T) {
	theirs, ours, trust := secured(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var logs [2][]string
	for i, s := range []*side{theirs, ours} {
		c := newCalico(ctx, t, s, trust, "app")
		c.live()
		c.late(newCalico(ctx, t, s, trust, "root"))
		logs[i] = c.log
	}
	if len(logs[0]) != len(logs[1]) {
		t.Fatalf("%d answers of etcd, %d of Headwater", len(logs[0]), len(logs[1]))
	}
	for i, want := range logs[0] {
		if got := logs[1][i]; got != want {
			t.Errorf("step %d:\netcd      %s\nheadwater %s", i, want, got)
		}
	}
}
