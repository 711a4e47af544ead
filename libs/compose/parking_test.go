package compose

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/loopback"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// resting is a standalone server in a bubble, on a store in memory, that closes keyspaces after a second. It listens
// for nobody: its calls are made by the test.
type resting struct {
	*testing.T
	*keyspaces
	change func(*config.Config)
	eng    *pebble.Store
	opens  atomic.Int64 // of keyspaces of the table
	stop   func()
}

// newResting starts one. The test calls end.
func newResting(t *testing.T, change func(*config.Config)) *resting {
	t.Helper()
	eng, err := pebble.Open("store", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &resting{T: t, change: change, eng: eng}
	r.start()
	return r
}

func (r *resting) start() {
	r.Helper()
	c := config.Default(config.Standalone)
	c.ListenClientURLs = []string{"http://127.0.0.1:0"}
	c.KeyspaceIdle = time.Second
	if r.change != nil {
		r.change(&c)
	}
	counts := func(k *Keyspace) part {
		return part{open: func(context.Context) error {
			if k.ofTable {
				r.opens.Add(1)
			}
			return nil
		}}
	}
	s, err := open(r.Context(), config.Standalone, c, Parts{Engine: r.eng}, append(services[config.Standalone], counts))
	if err != nil {
		r.Fatal(err)
	}
	r.keyspaces = s.keyspaces
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	go func() { done <- s.keyspaces.follow(ctx) }()
	r.stop = func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			r.Error(err)
		}
	}
	if err := s.keyspaces.table.Ready(r.Context()); err != nil {
		r.Fatal(err)
	}
}

func (r *resting) end() {
	r.stop()
	if err := r.eng.Close(); err != nil {
		r.Error(err)
	}
}

// create creates a keyspace that the server knows.
func (r *resting) create(name string) keyspace.Info {
	r.Helper()
	info, err := keyspace.Create(r.Context(), r.eng, r.root(), name, nil)
	if err != nil {
		r.Fatal(err)
	}
	for {
		changed := r.table.Changed()
		if _, there := r.table.ByID(info.ID); there {
			return info
		}
		<-changed
	}
}

// call calls f with a client of a keyspace, which is open meanwhile.
func (r *resting) call(info keyspace.Info, f func(context.Context, *clientv3.Client) error) {
	r.Helper()
	var v visit
	for again := true; again; {
		var err error
		if v, again, err = r.visit(r.Context(), info, callOther); err != nil {
			r.Fatal(err)
		}
	}
	defer v.leave()
	c, err := loopback.New(v.k.registerCore)
	if err != nil {
		r.Fatal(err)
	}
	if err := errors.Join(f(r.Context(), c.Client()), c.Close()); err != nil {
		r.Fatal(err)
	}
}

// isOpen tells whether any keyspace of the table is open.
func (r *resting) isOpen() bool {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open) > 0
}

// grant grants a lease with a key.
func (r *resting) grant(info keyspace.Info, ttl time.Duration) (id clientv3.LeaseID) {
	r.Helper()
	r.call(info, func(ctx context.Context, c *clientv3.Client) error {
		l, err := c.Grant(ctx, int64(ttl/time.Second))
		if err != nil {
			return err
		}
		id = l.ID
		_, err = c.Put(ctx, fmt.Sprint(id), "v", clientv3.WithLease(id))
		return err
	})
	return id
}

// hasLeases reads the rows, without opening the keyspace.
func (r *resting) hasLeases(info keyspace.Info) bool {
	r.Helper()
	has, err := mvcc.HasLeases(r.Context(), r.eng, info.Prefix)
	if err != nil {
		r.Fatal(err)
	}
	return has
}

// expires waits for the leases of a keyspace to be gone and returns when they were. Until then the keyspace is closed,
// but for the first moment and the last.
func (r *resting) expires(info keyspace.Info) time.Time {
	r.Helper()
	const step, moment = 50 * time.Millisecond, 6 * time.Second
	begin, opened := time.Now(), time.Time{}
	for r.hasLeases(info) {
		switch now := time.Now(); {
		case now.Sub(begin) > time.Hour:
			r.Fatal("it does not expire")
		case !r.isOpen() || now.Sub(begin) < moment:
		case opened.IsZero():
			opened = now
		case now.Sub(opened) > time.Second:
			r.Fatal("the keyspace is open before its lease is due: ", now.Sub(begin))
		}
		time.Sleep(step)
	}
	gone := time.Now()
	time.Sleep(moment)
	if r.isOpen() {
		r.Error("the keyspace stays open")
	}
	return gone
}

// within checks that something happened in a second after it was due, not before.
func within(t *testing.T, what string, at, due time.Time) {
	t.Helper()
	if late := at.Sub(due); late < 0 || late > time.Second {
		t.Errorf("%s: %v after it was due", what, late)
	}
}

// TestLeaseOfClosed: a lease of a keyspace that is closed expires in time, after a restart too; its keyspace is open
// for that moment only. Keeping it alive opens the keyspace for that.
func TestLeaseOfClosed(t *testing.T) {
	const ttl = 30 * time.Second
	synctest.Test(t, func(t *testing.T) {
		r := newResting(t, nil)
		defer func() { r.end() }()
		info := r.create("a")
		granted := time.Now()
		r.grant(info, ttl)
		within(t, "granted", r.expires(info), granted.Add(ttl))

		id := r.grant(info, ttl)
		time.Sleep(ttl / 2)
		if r.isOpen() {
			t.Error("it is open while nothing is due")
		}
		renewed := time.Now()
		r.call(info, func(ctx context.Context, c *clientv3.Client) error {
			a, err := c.KeepAliveOnce(ctx, id)
			if err == nil && a.TTL != int64(ttl/time.Second) {
				t.Error("kept alive for", a.TTL)
			}
			return err
		})
		within(t, "renewed", r.expires(info), renewed.Add(ttl))

		r.grant(info, ttl)
		r.create("b") // without a lease: nobody opens it
		time.Sleep(ttl / 2)
		r.stop()
		time.Sleep(time.Hour)
		restarted := time.Now()
		r.start()
		within(t, "restarted", r.expires(info), restarted.Add(ttl+lease.DefaultExtension))
		r.call(info, func(ctx context.Context, c *clientv3.Client) error {
			all, err := c.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err == nil && all.Count != 0 {
				t.Error("keys of expired leases:", all.Count)
			}
			return err
		})
	})
}

// compactsStep is how exactly compacts tells when.
const compactsStep = 10 * time.Second

// compacts waits for a keyspace to be compacted, and for what is gone to be removed. It returns when it was compacted,
// and how often it was opened for that.
func (r *resting) compacts(info keyspace.Info, rev int64) (at time.Time, opens int64) {
	r.Helper()
	before := r.opens.Load()
	for begin := time.Now(); ; time.Sleep(compactsStep) {
		p, err := mvcc.Peek(r.Context(), r.eng, info.Prefix)
		if err != nil {
			r.Fatal(err)
		}
		if p.Compact == rev && at.IsZero() {
			at = time.Now()
		}
		if p.Removed == rev && !r.isOpen() {
			return at, r.opens.Load() - before
		}
		if time.Since(begin) > 3*time.Hour {
			r.Fatalf("compacted %d, removed %d, open %v", p.Compact, p.Removed, r.isOpen())
		}
	}
}

// TestCompactionOfClosed: auto compaction opens a keyspace that is closed once, when there is something to compact,
// and closes it when that has been removed; so it does after a restart.
func TestCompactionOfClosed(t *testing.T) {
	const puts = 9
	for _, c := range []struct {
		mode, retention string
		rev             int64 // at which it is compacted in the end
		from, to        time.Duration
	}{
		{"periodic", "1h", puts + 1, time.Hour, time.Hour + 12*time.Minute},
		{"revision", "4", puts - 3, 0, 10 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newResting(t, func(conf *config.Config) {
				conf.AutoCompactionMode, conf.AutoCompactionRetention = c.mode, c.retention
				conf.KeyspaceIdle = 20 * time.Second // few reviews
			})
			defer func() { r.end() }()
			write := func(name string, n int) keyspace.Info {
				info := r.create(name)
				r.call(info, func(ctx context.Context, c *clientv3.Client) (err error) {
					for i := 0; i < n && err == nil; i++ {
						_, err = c.Put(ctx, "k", fmt.Sprint(i))
					}
					return err
				})
				return info
			}
			check := func(what string, info keyspace.Info) {
				t.Helper()
				begin := time.Now()
				at, opens := r.compacts(info, c.rev)
				if after := at.Sub(begin); after < c.from || after > c.to+compactsStep || opens != 1 {
					t.Errorf("%s, %s: compacted after %v, opened %d times", c.mode, what, after, opens)
				}
			}
			r.create("empty")
			info := write("a", puts)
			check("closed", info)
			again := write("b", puts)
			time.Sleep(time.Minute)
			r.stop()
			time.Sleep(2 * time.Hour)
			r.start()
			check("restarted", again)
			before := r.opens.Load()
			time.Sleep(3 * time.Hour)
			if n := r.opens.Load() - before; n != 0 {
				t.Errorf("%s: nothing is left to compact, and keyspaces are opened %d times", c.mode, n)
			}
			r.call(info, func(ctx context.Context, c *clientv3.Client) error {
				g, err := c.Get(ctx, "k")
				if err == nil && string(g.Kvs[0].Value) != fmt.Sprint(puts-1) {
					t.Error(g)
				}
				return err
			})
		})
	}
}

// TestParkAnew: what a keyspace leaves when it is closed replaces what was noted of it before, and a keyspace that
// could not be opened is tried again.
func TestParkAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newParking()
		l.note(1)
		p, _ := l.due(time.Now())
		if p == nil || p.id != 1 {
			t.Fatalf("%+v", p)
		}
		l.note(1) // is being opened
		if again, _ := l.due(time.Now()); again != nil {
			t.Errorf("%+v", again)
		}
		known := &lease.Parked{}
		due := time.Now().Add(time.Minute)
		l.park(&parkedLeases{id: 1, leases: known, due: due}) // it was open already, and has been closed
		if first, next := l.due(time.Now()); first != nil || next != time.Minute {
			t.Errorf("%+v, next after %v", first, next)
		}
		time.Sleep(time.Minute)
		if p, _ = l.due(time.Now()); p == nil || l.take(1) != known || l.take(1) != nil {
			t.Errorf("%+v", p)
		}
		for n := range 10 {
			l.retry(p)
			_, next := l.due(time.Now())
			if most := min(leaseRetry<<n, leaseRetryMax); next < most/2 || next > most {
				t.Errorf("attempt %d is followed by the next after %v", n, next)
			}
			time.Sleep(next)
			if p, _ = l.due(time.Now()); p == nil {
				t.Fatal("it is not tried again")
			}
		}
		l.end()
		l.park(&parkedLeases{id: 2})
		l.note(3)
		if p, _ := l.due(time.Now()); p != nil {
			t.Errorf("%+v", p)
		}
	})
}

// TestParkOpened: a keyspace that was noted while it was open, or was being opened by a call, can be noted again; what
// it has parked meanwhile stays.
func TestParkOpened(t *testing.T) {
	l := newParking()
	for range 2 {
		l.note(1)
		p, _ := l.due(time.Now())
		if p == nil {
			t.Fatal("it is not due")
		}
		l.opened(p)
	}
	l.note(1)
	p, _ := l.due(time.Now())
	known := &lease.Parked{}
	l.park(&parkedLeases{id: 1, leases: known, due: time.Now().Add(time.Minute)})
	l.opened(p)
	if l.take(1) != known {
		t.Error("what was parked is gone")
	}
}
