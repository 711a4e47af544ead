package gateway

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// by makes a request a tenant's.
func by(tenant, request string) string {
	return strings.Replace(request, "Host: x\r\n", "Host: x\r\n"+tenantHeader+": "+tenant+"\r\n", 1)
}

// TestTenantCalls: a tenant who opens as many streams as it can leaves requests for another.
func TestTenantCalls(t *testing.T) {
	serving(t, &services{shared: true}, func(t *testing.T, g *Gateway, dial func() net.Conn) {
		hostile := g.calls.Holding()
		for hostile.Take(1) {
		}
		c := dial()
		write(t, c, by("neighbour", post("/v3/kv/range", 2))+"{}")
		if got := result(t, c); !strings.HasPrefix(got, "200") {
			t.Error(got)
		}
		hostile.Give(g.calls.Used())
	})
}

// TestTenantAnswers: a tenant that does not read its answers does not keep others from getting theirs.
func TestTenantAnswers(t *testing.T) {
	// Each takes 160 KiB of 1 MiB: three of a tenant, which leaves room for one of another.
	value := &etcdserverpb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Value: make([]byte, 40<<10)}}}
	serving(t, &services{answer: value, shared: true}, func(t *testing.T, g *Gateway, dial func() net.Conn) {
		ask := func(tenant string) net.Conn {
			c := dial()
			write(t, c, by(tenant, post("/v3/kv/range", 2))+"{}")
			synctest.Wait()
			return c
		}
		for range 8 {
			ask("hostile")
		}
		if held := g.answers.Used(); held == 0 || held > 512<<10 {
			t.Errorf("the hostile one holds %d bytes", held)
		}
		if got := result(t, ask("neighbour")); !strings.HasPrefix(got, "200") {
			t.Errorf("the neighbour: %.200s", got)
		}
	})
}

// TestTenantBodies: if the bodies of a tenant do not end, the tenant loses its own bodies, even if another's is the
// oldest.
func TestTenantBodies(t *testing.T) {
	serving(t, &services{shared: true}, func(t *testing.T, g *Gateway, dial func() net.Conn) {
		g.bodies.bytesMax = 3*messageMax + 1000
		head, most := post("/v3/kv/put", messageMax), `{"key":"`+strings.Repeat("A", messageMax-100)
		own := dial()
		write(t, own, by("neighbour", head)+most)
		synctest.Wait()
		for range 6 {
			c := dial()
			go func() { _, _ = io.WriteString(c, by("hostile", head)+most) }()
			synctest.Wait()
		}
		write(t, own, strings.Repeat("A", 100-len(`{"key":"`)-2)+`"}`)
		if got := result(t, own); !strings.HasPrefix(got, "200") {
			t.Errorf("the neighbour: %.200s", got)
		}
	})
}
