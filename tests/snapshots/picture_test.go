package snapshots

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// timeout bounds every wait.
const timeout = 2 * time.Minute

func dial(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var keys = []string{"a", "b", "k/1", "k/2", "k/2/x", "\x00", "a\x00", "a\x00\xff", "\xff\xff", "c"}

// traffic changes a keyspace at random. With single every request changes one key, so that the order of events within a
// revision does not matter.
type traffic struct {
	*rand.Rand
	c      *clientv3.Client
	leases []clientv3.LeaseID
}

func (g *traffic) key() string { return keys[g.IntN(len(keys))] }

func (g *traffic) value() string {
	b := make([]byte, []int{0, 3, 30, 700, 5000}[g.IntN(5)])
	if g.IntN(150) == 0 {
		b = make([]byte, 600_000)
	}
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return string(b)
}

func (g *traffic) put() clientv3.Op {
	if len(g.leases) > 0 && g.IntN(3) == 0 {
		return clientv3.OpPut(g.key(), g.value(), clientv3.WithLease(g.leases[g.IntN(len(g.leases))]))
	}
	return clientv3.OpPut(g.key(), g.value())
}

func (g *traffic) step(t *testing.T, single bool) {
	t.Helper()
	ctx := t.Context()
	var err error
	switch n := g.IntN(100); {
	case n < 60 || single && n < 80:
		_, err = g.c.Do(ctx, g.put())
	case n < 80:
		ops := []clientv3.Op{g.put(), g.put()}
		if string(ops[0].KeyBytes()) == string(ops[1].KeyBytes()) {
			ops = ops[:1]
		}
		_, err = g.c.Txn(ctx).Then(ops...).Commit()
	case n < 86 && !single:
		_, err = g.c.Delete(ctx, g.key(), clientv3.WithFromKey())
	case n < 92:
		_, err = g.c.Delete(ctx, g.key())
	case n < 97:
		var l *clientv3.LeaseGrantResponse
		if l, err = g.c.Grant(ctx, 1000+g.Int64N(1000)); err == nil {
			g.leases = append(g.leases, l.ID)
		}
	case len(g.leases) > 0 && !single:
		i := g.IntN(len(g.leases))
		_, err = g.c.Revoke(ctx, g.leases[i])
		g.leases = append(g.leases[:i], g.leases[i+1:]...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// picture is everything that a server answers, as lines.
type picture []string

func (p *picture) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

// pictureOf reads everything from a server. compact is the revision at which it was compacted, or 0.
func pictureOf(t *testing.T, c *clientv3.Client, compact int64) (p picture) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	now, err := c.Get(ctx, "nothing")
	if err != nil {
		t.Fatal(err)
	}
	head := now.Header.Revision
	p.add("head %d", head)
	if _, err := c.Get(ctx, "a", clientv3.WithRev(max(compact-1, 1))); compact > 1 &&
		!errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatalf("below the compact revision: %v", err)
	}
	revs := p.history(ctx, t, c, max(compact, 1), head)
	for _, rev := range append([]int64{max(compact, 1)}, revs...) {
		r, err := c.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(rev))
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range r.Kvs {
			p.add("at %d %v", rev, kv)
		}
	}
	h, err := c.HashKV(ctx, c.Endpoints()[0], head)
	if err != nil {
		t.Fatal(err)
	}
	p.add("hash %x of %d, compacted %d", h.Hash, head, h.CompactRevision)
	p.leases(ctx, t, c)
	return p
}

// history adds the events that a watch shows. It returns their revisions.
func (p *picture) history(ctx context.Context, t *testing.T, c *clientv3.Client, from, head int64) (revs []int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for r := range c.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(from), clientv3.WithPrevKV()) {
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
		last := int64(0)
		for _, ev := range r.Events {
			if last = ev.Kv.ModRevision; last == from {
				ev.PrevKv = nil // it may be missing at such a revision
			}
			if n := len(revs); n == 0 || revs[n-1] != last {
				revs = append(revs, last)
			}
			p.add("%v %v prev %v", ev.Type, ev.Kv, ev.PrevKv)
		}
		if last >= head {
			return revs
		}
	}
	t.Fatal("the watch ended")
	return nil
}

func (p *picture) leases(ctx context.Context, t *testing.T, c *clientv3.Client) {
	t.Helper()
	all, err := c.Leases(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range all.Leases {
		r, err := c.TimeToLive(ctx, l.ID, clientv3.WithAttachedKeys())
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(r.Keys, func(a, b []byte) int { return strings.Compare(string(a), string(b)) })
		if r.TTL < r.GrantedTTL-600 {
			t.Errorf("lease %x has %d of %d seconds left", l.ID, r.TTL, r.GrantedTTL)
		}
		lines = append(lines, fmt.Sprintf("lease %x of %d s: %q", l.ID, r.GrantedTTL, r.Keys))
	}
	slices.Sort(lines)
	*p = append(*p, lines...)
}

func same(t *testing.T, what string, want, got picture) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Fatalf("%s: line %d is\n%.300s\nwant\n%.300s", what, i, got[i], want[i])
		}
	}
	if len(want) != len(got) {
		t.Fatalf("%s: %d lines, want %d", what, len(got), len(want))
	}
}
