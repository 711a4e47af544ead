package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/tests/internal/leases"
)

const (
	deposedLeases = 8
	deposedTTL    = 2 // seconds
	// deposedFor is longer than another pod needs to take over a keeper's shards (2 s) and then to let their leases
	// expire (a TTL).
	deposedFor = 6 * time.Second
)

// TestDeposedKeeper takes the database away from a lease keeper while its clients go on asking it. The fault lasts
// until the other keeper has taken over its shards and their leases have expired there. The real keeper stops answering
// in time, and the judge of leases accepts it. A deluded keeper goes on answering from memory, as it would if it
// ignored Term.Holds, and the judge has to reject it.
func TestDeposedKeeper(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, delude := range map[string]bool{"cut off": false, "deluded": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := depose(t, delude)
			t.Logf("the judge of leases says: %v", err)
			if delude && !errors.Is(err, leases.ErrEarly) {
				t.Error("no judge notices a deposed keeper that keeps leases alive")
			}
			if !delude && err != nil {
				t.Error(err)
			}
		})
	}
}

// depose returns what the judge says about the leases of one keeper's clients.
func depose(t *testing.T, delude bool) (judgement error) {
	world := newDelusion(t) // made before the stack, so that it is closed after it
	s := newStack(t)
	if err := s.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := s.pods[keeper][0]
	m.view.Pause(true) // no other faults
	reader, cli := s.client(s.addrs(kv)...), s.client(m.addr())
	gone := leases.Watch(t.Context(), reader)
	defer gone.Close()
	clock := leases.StartClock(t.Context(), reader, leases.ClockPeriod)
	defer clock.Close()
	// A keeper grants in its own shards.
	lives := make([]*leases.Life, deposedLeases)
	for i := range lives {
		var err error
		if lives[i], err = leases.Begin(t.Context(), cli, fmt.Sprintf("%02d", i), deposedTTL); err != nil {
			t.Fatal(err)
		}
	}
	if delude {
		if err := world.fork(t.Context(), s.eng); err != nil {
			t.Fatal(err)
		}
	}
	inner := m.view.Crash()
	if delude {
		m.view.Restart(world)
	}
	end := time.Now().Add(deposedFor)
	errs := make([]error, len(lives))
	var wg sync.WaitGroup
	for i, l := range lives {
		wg.Go(func() { errs[i] = l.Keep(t.Context(), cli, end) })
	}
	wg.Wait()
	m.view.Crash()
	m.view.Restart(inner)
	for i, l := range lives {
		if errs[i] == nil {
			errs[i] = l.Ended(t.Context(), reader, gone, clock, time.Now().Add(leaseSlack))
		}
	}
	return errors.Join(errs...)
}

// delusion is an engine that has the rows of the shared one up to a moment, and none that others write later. A pod on
// it believes that all its terms go on. It refuses commits that make a revision, so to the layers above the database
// seems to be partly unavailable.
type delusion struct {
	engine.Store
	limits  engine.Limits
	version uint64 // of the shared engine at the fork
}

// newDelusion opens a delusion. It is closed with the test.
func newDelusion(t *testing.T) *delusion {
	t.Helper()
	db, err := pebble.Open("data", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &delusion{Store: db}
}

// fork copies all rows.
func (d *delusion) fork(ctx context.Context, shared engine.Store) error {
	snap, err := shared.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snap.Close()
	d.limits, d.version = shared.Limits(), snap.Version()
	x, err := d.Store.Begin(ctx)
	if err != nil {
		return err
	}
	defer x.Discard()
	it := snap.Scan(ctx, engine.Range{})
	for it.Next() {
		x.Set(it.Key(), it.Value())
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		return err
	}
	p, err := x.Commit(ctx)
	if err == nil {
		_, err = p.Wait(ctx)
	}
	return err
}

// Limits implements engine.Store.
func (d *delusion) Limits() engine.Limits { return d.limits }

// Snapshot implements engine.Store.
func (d *delusion) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	s, err := d.Store.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return deludedSnapshot{s, d.version}, nil
}

type deludedSnapshot struct {
	engine.Snapshot
	version uint64
}

// Version implements engine.Reader. Versions never go backwards.
func (s deludedSnapshot) Version() uint64 { return s.version + s.Snapshot.Version() }

// Begin implements engine.Store.
func (d *delusion) Begin(ctx context.Context) (engine.Txn, error) {
	x, err := d.Store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &deludedTxn{Txn: x, version: d.version}, nil
}

type deludedTxn struct {
	engine.Txn
	version uint64
	stamped bool
}

// Version implements engine.Reader.
func (x *deludedTxn) Version() uint64 { return x.version + x.Txn.Version() }

// UseStamps implements engine.Txn.
func (x *deludedTxn) UseStamps(n int) { x.stamped = x.stamped || n > 0 }

// Commit implements engine.Txn.
func (x *deludedTxn) Commit(ctx context.Context) (engine.Pending, error) {
	if x.stamped {
		return nil, engine.ErrUnavailable
	}
	return x.Txn.Commit(ctx)
}
