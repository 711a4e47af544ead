package compose

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/loopback"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// hosting is a leasekeeper pod in a bubble, whose terms of one shard begin and end when the test says so.
type hosting struct {
	*testing.T
	*keyspaces
	eng   *pebble.Store
	info  keyspace.Info
	shard int
	// hold, if set, holds up what is being opened, until it returns.
	hold func() error
}

// newHosting starts one, with a keyspace that all pods serve.
func newHosting(t *testing.T) *hosting {
	t.Helper()
	h := &hosting{T: t}
	var err error
	h.eng, err = pebble.Open("store", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	held := func(k *Keyspace) part {
		return part{open: func(context.Context) error {
			if k.ofTable && h.hold != nil {
				return h.hold()
			}
			return nil
		}}
	}
	parts := append([]func(*Keyspace) part{held}, services[config.LeaseKeeper]...)
	p, err := open(t.Context(), config.LeaseKeeper, testConfig(), Parts{Engine: h.eng}, parts)
	if err != nil {
		t.Fatal(err)
	}
	h.keyspaces = p.keyspaces
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.table.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := errors.Join(p.Close(), h.eng.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := (adminHost{h.keyspaces}).Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.info, err = keyspace.Create(t.Context(), h.eng, h.root(), "a", nil); err != nil {
		t.Fatal(err)
	}
	h.shard = h.joint.d.Shard(h.info.ID)
	for {
		changed := h.table.Changed()
		if _, there := h.table.ByID(h.info.ID); there {
			return h
		}
		<-changed
	}
}

// lead begins a term, and returns what ends it.
func (h *hosting) lead() (end func()) {
	h.Helper()
	c, err := election.New(h.eng, election.Options{Key: []byte("shard"), Holder: "pod"})
	if err != nil {
		h.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx, func(ctx context.Context, t *election.Term) error {
			return h.joint.leases.work(ctx, h.shard, t)
		})
	}()
	for h.joint.leases.term(h.shard) == nil {
		time.Sleep(election.TTLMin)
	}
	synctest.Wait() // it has looked for leases
	return func() {
		cancel()
		if err := <-done; err != nil {
			h.Error(err)
		}
	}
}

// enter begins a call, which goes on until leave.
func (h *hosting) enter() (visit, error) {
	for {
		if v, again, err := h.visit(h.Context(), h.info, callOther); !again || err != nil {
			return v, err
		}
	}
}

// grant grants a lease in a call that goes on until leave.
func (h *hosting) grant() (leave func()) {
	h.Helper()
	v, err := h.enter()
	if err != nil {
		h.Fatal(err)
	}
	c, err := loopback.New(v.k.registerCore)
	if err != nil {
		h.Fatal(err)
	}
	_, err = c.Client().Grant(h.Context(), 5)
	if err = errors.Join(err, c.Close()); err != nil {
		h.Fatal(err)
	}
	return v.leave
}

// hasLeases reads the rows.
func (h *hosting) hasLeases() bool {
	h.Helper()
	has, err := mvcc.HasLeases(h.Context(), h.eng, h.info.Prefix)
	if err != nil {
		h.Fatal(err)
	}
	return has
}

// expires waits for the lease to be gone.
func (h *hosting) expires() {
	h.Helper()
	if !h.hasLeases() {
		h.Fatal("there is no lease")
	}
	for begin := time.Now(); h.hasLeases(); time.Sleep(time.Second) {
		if time.Since(begin) > time.Hour {
			h.Fatal("the lease does not expire")
		}
	}
}

// TestLeasesOfNextTerm: leases end in time when their shard's term was over for a moment: while the keyspace of the
// earlier term is still being closed, since a call is under way, and while a call has it opened and that fails.
func TestLeasesOfNextTerm(t *testing.T) {
	for name, between := range map[string]func(h *hosting, leave func()) (after func()){
		"closed already": func(_ *hosting, leave func()) func() { leave(); time.Sleep(endGrace); return func() {} },
		"being closed":   func(_ *hosting, leave func()) func() { return leave },
		"being opened": func(h *hosting, leave func()) func() {
			leave()
			time.Sleep(endGrace)
			failed := make(chan error)
			h.hold = func() error { return <-failed }
			called := make(chan error, 1)
			go func() { _, err := h.enter(); called <- err }()
			synctest.Wait()
			return func() {
				h.hold = nil
				failed <- errors.New("the store is away")
				if <-called == nil {
					h.Error("the call has not failed")
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHosting(t)
				end := h.lead()
				leave := h.grant()
				end()
				after := between(h, leave)
				end = h.lead()
				defer end()
				after()
				h.expires()
			})
		})
	}
}

// TestPassedRenewalOfLostShard: a client whose keep-alives another pod passes on is not told that its lease is gone
// when this pod has lost the shard, but that it has to ask again.
func TestPassedRenewalOfLostShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHosting(t)
		end := h.lead()
		v, err := h.enter()
		if err != nil {
			t.Fatal(err)
		}
		defer v.leave()
		c, err := loopback.New(v.k.registerCore)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		granted, err := c.Client().Grant(t.Context(), 60)
		if err != nil {
			t.Fatal(err)
		}
		end()
		passed := metadata.AppendToOutgoingContext(t.Context(), lease.ForwardedKey, "1")
		got, err := c.Client().KeepAliveOnce(passed, granted.ID)
		if !h.hasLeases() || errors.Is(err, rpctypes.ErrLeaseNotFound) || err == nil {
			t.Fatalf("%+v, %v; there is a lease: %v", got, err, h.hasLeases())
		}
	})
}
