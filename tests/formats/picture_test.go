package formats

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// version is one version of a key.
type version struct {
	key                         string
	mod, create, version, lease int64
	value                       string // length and hash
}

func versionOf(kv *mvccpb.KeyValue) version {
	sum := sha256.Sum256(kv.Value)
	return version{
		key: string(kv.Key), mod: kv.ModRevision, create: kv.CreateRevision, version: kv.Version, lease: kv.Lease,
		value: fmt.Sprintf("%d:%x", len(kv.Value), sum[:6]),
	}
}

// picture is everything that a client can read of a keyspace except its hash. HashKV has been etcd's since the release
// that can send snapshots, and was different before.
type picture struct {
	from, last int64 // compact revision, revision of the last write
	answers    []answer
	states     []state
	events     []event
	leases     []string
	alarms     []string
}

// state is what a client reads at a revision.
type state struct {
	rev int64
	kvs []version
}

type event struct {
	deleted bool
	kv      version
	prev    *version
}

// take reads everything from a compact revision to the last write.
func take(ctx context.Context, c *clientv3.Client, from, last int64, answers []answer) (p *picture, err error) {
	p = &picture{from: from, last: last, answers: answers}
	if _, err := c.Get(ctx, "end", clientv3.WithRev(from-1)); !errors.Is(err, rpctypes.ErrCompacted) {
		return nil, fmt.Errorf("a read below the compact revision %d: %w", from, err)
	}
	if err := p.watch(ctx, c); err != nil {
		return nil, err
	}
	revs := []int64{from}
	for _, ev := range p.events {
		if revs[len(revs)-1] != ev.kv.mod {
			revs = append(revs, ev.kv.mod)
		}
	}
	for _, rev := range revs {
		if err := p.read(ctx, c, rev); err != nil {
			return nil, err
		}
	}
	return p, p.other(ctx, c)
}

// watch gathers the events from the compact revision on.
func (p *picture) watch(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for r := range c.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(p.from), clientv3.WithPrevKV()) {
		if err := r.Err(); err != nil {
			return err
		}
		for _, ev := range r.Events {
			e := event{deleted: ev.Type == mvccpb.Event_DELETE, kv: versionOf(ev.Kv)}
			if ev.PrevKv != nil {
				prev := versionOf(ev.PrevKv)
				e.prev = &prev
			}
			p.events = append(p.events, e)
		}
		if n := len(r.Events); n > 0 && r.Events[n-1].Kv.ModRevision >= p.last {
			return nil
		}
	}
	return fmt.Errorf("the watch ended: %w", ctx.Err())
}

// read reads the state at a revision in one list, and each of its keys alone.
func (p *picture) read(ctx context.Context, c *clientv3.Client, rev int64) error {
	r, err := c.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(rev))
	if err != nil {
		return err
	}
	st := state{rev: rev}
	for _, kv := range r.Kvs {
		st.kvs = append(st.kvs, versionOf(kv))
		one, err := c.Get(ctx, string(kv.Key), clientv3.WithRev(rev))
		if err != nil || len(one.Kvs) != 1 || versionOf(one.Kvs[0]) != versionOf(kv) {
			return fmt.Errorf("key %q at revision %d alone: %v, %w", kv.Key, rev, one, err)
		}
	}
	p.states = append(p.states, st)
	return nil
}

// other reads everything besides keys.
func (p *picture) other(ctx context.Context, c *clientv3.Client) error {
	leases, err := c.Leases(ctx)
	if err != nil {
		return err
	}
	for _, l := range leases.Leases {
		r, err := c.TimeToLive(ctx, l.ID, clientv3.WithAttachedKeys())
		if err != nil {
			return err
		}
		p.leases = append(p.leases, fmt.Sprintf("lease %d granted %d keys %q", l.ID, r.GrantedTTL, r.Keys))
	}
	slices.Sort(p.leases)
	alarms, err := c.AlarmList(ctx)
	if err != nil {
		return err
	}
	for _, a := range alarms.Alarms {
		p.alarms = append(p.alarms, "alarm "+a.Alarm.String())
	}
	return nil
}

// ranks replaces revisions by their ranks. Two runs of one script then have equal pictures, whatever revisions they
// got.
func (p *picture) ranks() {
	var all []int64
	p.revisions(func(rev *int64) { all = append(all, *rev) })
	slices.Sort(all)
	all = slices.Compact(all)
	p.revisions(func(rev *int64) {
		i, _ := slices.BinarySearch(all, *rev)
		*rev = int64(i)
	})
}

// revisions visits every revision of the picture.
func (p *picture) revisions(visit func(*int64)) {
	of := func(v *version) { visit(&v.mod); visit(&v.create) }
	visit(&p.from)
	visit(&p.last)
	for i := range p.answers {
		for j := range p.answers[i].kvs {
			of(&p.answers[i].kvs[j])
		}
	}
	for i := range p.states {
		visit(&p.states[i].rev)
		for j := range p.states[i].kvs {
			of(&p.states[i].kvs[j])
		}
	}
	for i := range p.events {
		of(&p.events[i].kv)
		if p.events[i].prev != nil {
			of(p.events[i].prev)
		}
	}
}

// lines is the picture as text.
func (p *picture) lines() (out []string) {
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	add("from %d to %d", p.from, p.last)
	for _, a := range p.answers {
		add("answer of %q: %v", a.what, a.kvs)
	}
	for _, s := range p.states {
		add("state %d", s.rev)
		for _, v := range s.kvs {
			add("  %v", v)
		}
	}
	for _, e := range p.events {
		verb, prev := "put", "nothing"
		if e.deleted {
			verb = "delete"
		}
		if e.prev != nil {
			prev = e.prev.String()
		}
		add("event %s %v over %s", verb, e.kv, prev)
	}
	return append(append(out, p.leases...), p.alarms...)
}

// String implements fmt.Stringer.
func (v version) String() string {
	return fmt.Sprintf("%q@%d create %d version %d lease %d value %s", v.key, v.mod, v.create, v.version, v.lease,
		v.value)
}
