//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/migrate"
	"github.com/headwaterdb/headwater/tests/internal/leases"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	// movedFrom is migrated to movedTo while it is written.
	movedFrom = "moved-from"
	movedTo   = "moved-to"
	movedKeys = 12
	movePause = 200 * time.Millisecond // between two writes, at most, and between two attempts to migrate
	moveTTL   = 3600                   // seconds: no lease ends in a run
)

// move is a migration from one keyspace into another, its source's writer, and who judges it.
type move struct {
	w       *world
	from    *clientv3.Client
	cancel  context.CancelFunc // of the writer
	stop    context.CancelFunc // of the migration
	writes  sync.WaitGroup
	follows sync.WaitGroup

	mu     sync.Mutex
	failed error
}

func (w *world) startMove(ctx context.Context) (*move, error) {
	if !w.plan.moves {
		return nil, nil
	}
	if err := w.createKeyspace(ctx, movedFrom, nil); err != nil {
		return nil, err
	}
	m := &move{w: w}
	var err error
	if m.from, err = w.client(w.addrs(outside, w.first())...); err != nil {
		return nil, err
	}
	ctx = in(ctx, movedFrom)
	writing, cancel := context.WithCancel(ctx)
	m.cancel = cancel
	m.writes.Go(func() { m.write(writing) })
	following, stop := context.WithCancel(ctx)
	m.stop = stop
	m.follows.Go(func() { m.follow(following) })
	return m, nil
}

// write writes the source: keys with and without leases, deletions, and compactions.
func (m *move) write(ctx context.Context) {
	r := m.w.rand("moves")
	var lease clientv3.LeaseID
	for n := int64(0); ctx.Err() == nil; n++ {
		time.Sleep(between(r, time.Millisecond, movePause))
		once, cancel := context.WithTimeout(ctx, loginTimeout)
		key, value := fmt.Sprint("key-", r.IntN(movedKeys)), fmt.Sprint(n)
		switch r.IntN(8) {
		case 0:
			_, _ = m.from.Delete(once, key)
		case 1:
			if g, err := m.from.Grant(once, moveTTL); err == nil {
				lease = g.ID
			}
		case 2:
			_, _ = m.from.Put(once, key, value, clientv3.WithLease(lease)) // 0: none
		case 3:
			_, _ = m.from.Txn(once).Then(clientv3.OpDelete(key), clientv3.OpPut(key+"/more", value)).Commit()
		case 4:
			if g, err := m.from.Get(once, key); err == nil && r.IntN(4) == 0 {
				_, _ = m.from.Compact(once, g.Header.Revision)
			}
		default:
			_, _ = m.from.Put(once, key, value)
		}
		cancel()
	}
}

// migration is what an operator would begin now.
func (m *move) migration() *migrate.Migration {
	return &migrate.Migration{
		Source: migrate.NewSource(m.from), Target: migrate.NewTarget(&adminConn{w: m.w}, movedTo),
		TempDir: os.TempDir(),
		Note:    func(line string) { m.w.tracef("migration", "%s", line) },
	}
}

// follow migrates until ctx ends, begun again whenever it fails. That both sides differ is no failure of the moment.
func (m *move) follow(ctx context.Context) {
	for ctx.Err() == nil {
		mig := m.migration()
		err := mig.Run(ctx)
		mig.Close()
		var differs *migrate.DiffersError
		if errors.As(err, &differs) {
			m.mu.Lock()
			m.failed = errors.Join(m.failed, fmt.Errorf("migration: %w", err))
			m.mu.Unlock()
			return
		}
		if err != nil && ctx.Err() == nil {
			m.w.seen.note("migration: begun again")
			m.w.tracef("migration", "%v", err)
		}
		time.Sleep(movePause)
	}
}

// judge cuts over, now that all is well: both keyspaces have to be the same, and the new one takes writes.
func (m *move) judge(ctx context.Context) error {
	if m == nil {
		return nil
	}
	m.cancel()
	m.writes.Wait()
	m.stop()
	m.follows.Wait()
	if m.failed != nil {
		return m.failed
	}
	time.Sleep(quietTime)
	if err := m.cutOver(in(ctx, movedFrom)); err != nil {
		return fmt.Errorf("migration: no cut-over within %v after the last fault: %w", liveWithin, err)
	}
	var old, moved []string
	err := leases.Retry(ctx, func(ctx context.Context) (err error) {
		old, err = m.content(in(ctx, movedFrom))
		return err
	})
	err = errors.Join(err, leases.Retry(ctx, func(ctx context.Context) (err error) {
		moved, err = m.content(in(ctx, movedTo))
		return err
	}))
	if err == nil && !slices.Equal(old, moved) {
		err = fmt.Errorf("after the cut-over there is %q, where there was %q", moved, old)
	}
	err = errors.Join(err, leases.Retry(in(ctx, movedTo), func(ctx context.Context) error {
		_, err := m.from.Put(ctx, "after", "the cut-over")
		return err
	}), m.from.Close())
	if err != nil {
		return fmt.Errorf("migration: %w", err)
	}
	m.w.seen.note("migration: cut over")
	return nil
}

// cutOver migrates what is left and cuts over. An attempt of which the answer was lost may have done it.
func (m *move) cutOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, liveWithin)
	defer cancel()
	for {
		mig := m.migration()
		err := mig.CatchUp(ctx)
		if err == nil {
			_, err = mig.CutOver(ctx)
		}
		mig.Close()
		if err == nil || errors.Is(err, migrate.ErrNotFollowing) {
			return nil
		}
		m.w.tracef("migration", "%v", err)
		select {
		case <-time.After(movePause):
		case <-ctx.Done():
			return err
		}
	}
}

// content is all that a client sees of a keyspace.
func (m *move) content(ctx context.Context) (all []string, err error) {
	keys, err := m.from.Get(ctx, "", clientv3.WithFromKey())
	if err != nil {
		return nil, err
	}
	all = append(all, fmt.Sprint("revision ", keys.Header.Revision))
	for _, kv := range keys.Kvs {
		all = append(all, fmt.Sprintf("%s=%s create %d mod %d version %d lease %x", kv.Key, kv.Value, kv.CreateRevision,
			kv.ModRevision, kv.Version, kv.Lease))
	}
	granted, err := m.from.Leases(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, l := range granted.Leases {
		ids = append(ids, fmt.Sprintf("lease %x", l.ID))
	}
	slices.Sort(ids)
	return append(all, ids...), nil
}

// adminConn is the admin API of a deployment: each call goes to the next kv pod that is up.
type adminConn struct {
	w *world
	n int
}

func (a *adminConn) dial() (*grpc.ClientConn, error) {
	pods := a.w.of(config.KV)
	for range pods {
		p := pods[a.n%len(pods)]
		a.n++
		if p.life != nil {
			return grpc.NewClient(p.adminAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		}
	}
	return nil, status.Error(codes.Unavailable, "no kv pod is up")
}

// Invoke implements grpc.ClientConnInterface.
func (a *adminConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c, err := a.dial()
	if err != nil {
		return err
	}
	return errors.Join(c.Invoke(ctx, method, args, reply, opts...), c.Close())
}

// NewStream implements grpc.ClientConnInterface. The connection ends with the call's context.
func (a *adminConn) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	c, err := a.dial()
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	return c.NewStream(ctx, desc, method, opts...)
}
