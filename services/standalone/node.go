package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/compactor"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wiring"
)

// storeError is the cause of a context that has ended because the store can no longer be used.
type storeError struct{ error }

// node is the server's insides, in the order in which they are opened.
type node struct {
	log     *slog.Logger
	lock    io.Closer // on the data directory
	disk    *server.DiskMetrics
	watched wiring.WatchLatency
	engine  *pebble.Store
	store   *mvcc.Store
	hub     *watch.Hub
	keeper  *lease.Keeper
	alarms  *etcdapi.Alarms
	damage  *etcdapi.DamageAlarm
	local   *etcdapi.LocalClient
	grpc    *server.GRPC

	header        etcdapi.Header
	startRevision int64
	quota         int64
	overQuota     bell

	stop context.CancelFunc // of the goroutines below
	wg   sync.WaitGroup
}

// open opens the store in c's data directory and all that stands on it. fail ends the process when the store or the
// leases can no longer be served. If it returns an error, everything is closed again.
func open(ctx context.Context, c server.Config, clientURLs []string, log *slog.Logger, fail context.CancelCauseFunc) (n *node, err error) {
	n = &node{log: log, disk: server.NewDiskMetrics(), damage: etcdapi.NewDamageAlarm(log), watched: wiring.NewWatchLatency(), quota: c.QuotaBackendBytes, overQuota: make(bell, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	broken := func(err error) { fail(storeError{err}) }
	if err := n.openStore(ctx, c, broken); err != nil {
		return n, err
	}
	if err := n.startLeases(ctx, broken); err != nil {
		return n, err
	}
	if err := n.registerServices(c, clientURLs); err != nil {
		return n, err
	}
	return n, n.startBackground(c)
}

// openStore opens engine, keyspace and watch hub.
func (n *node) openStore(ctx context.Context, c server.Config, broken func(error)) (err error) {
	// The engine locks its own directory; this keeps a second server out when somebody has removed that.
	if err := os.MkdirAll(c.Dir(), 0o700); err != nil {
		return fmt.Errorf("data directory cannot be created: %w", err)
	}
	if n.lock, err = pebble.LockDir(c.Dir()); err != nil {
		return err
	}
	n.engine, err = pebble.Open(filepath.Join(c.Dir(), storeDir), pebble.Options{
		CacheBytes:    c.CacheBytes,
		MemTableBytes: c.MemTableBytes,
		ReserveBytes:  c.DiskReserveBytes,
		QuotaBytes:    c.QuotaBackendBytes,
		Logger:        n.log,
		Observe:       pebble.Observer{WALSync: n.disk.WALSync, Commit: n.disk.Commit},
		OnDamage:      n.damage.Report,
		OnFailure:     broken,
		Adopt:         c.ActivateFeatures.Has(mvcc.FeaturesAll),
	})
	if err != nil {
		return err
	}
	n.hub = watch.New(wiring.Watch(c, n.watched, n.log))
	n.store, err = mvcc.Open(ctx, sizedEngine{n.engine}, mvcc.Options{
		Feed: n.hub.Apply, Followed: n.hub.Position,
		Quota: c.QuotaBackendBytes, OverQuota: n.overQuota.signal,
		OnDamage: n.damage.Report, Activate: c.ActivateFeatures, CloseGrace: writesGrace, Logger: n.log,
	})
	if err != nil {
		return err
	}
	wiring.LogFeatures(n.log, n.store.Features(), mvcc.FeaturesAll)
	if n.alarms, err = etcdapi.OpenAlarms(ctx, n.store); err != nil {
		return err
	}
	if n.startRevision, err = n.store.Head(ctx); err != nil {
		return err
	}
	n.hub.Start(n.store, n.startRevision)
	n.header = wiring.Header(n.store.Meta().ClusterID, c.Name)
	return nil
}

// writesGrace is how long the end of the process waits for writes that the disk does not take: with the engine's own
// bounds less than three seconds.
const writesGrace = 500 * time.Millisecond

// leasesPatience is how long a start waits for the lease keeper. On a full disk it cannot claim the leases; reads and
// deletes are served all the same, and requests for leases wait.
const leasesPatience = 5 * time.Second

// startLeases starts the lease keeper and waits until it answers, or for leasesPatience.
func (n *node) startLeases(ctx context.Context, broken func(error)) (err error) {
	if n.keeper, err = lease.New(n.store, lease.Options{Logger: n.log}); err != nil {
		return err
	}
	run, stop := context.WithCancel(context.Background())
	n.stop = stop
	ended := make(chan error, 1)
	n.wg.Go(func() {
		err := n.keeper.Run(run)
		if err != nil {
			broken(fmt.Errorf("leases: %w", err))
		}
		ended <- err
	})
	select {
	case <-n.keeper.Ready():
		return nil
	case <-time.After(leasesPatience):
		n.log.Warn("serving before the leases are loaded")
		return nil
	case err := <-ended:
		return fmt.Errorf("leases: %w", err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// registerServices makes the gRPC server with all services of the client port.
func (n *node) registerServices(c server.Config, clientURLs []string) (err error) {
	n.grpc = wiring.GRPC(c, n.log)
	kv := wiring.KV(c)
	core := func(r grpc.ServiceRegistrar) {
		etcdapi.RegisterKV(r, n.store, n.header, kv)
		etcdapi.RegisterWatch(r, n.hub, n.header, etcdapi.WatchOptions{MaxRequestBytes: c.MaxRequestBytes})
		etcdapi.RegisterLease(r, n.keeper, n.header, n.store)
	}
	core(n.grpc)
	etcdapi.RegisterCluster(n.grpc, n.header, etcdapi.Member{Name: c.Name, ClientURLs: clientURLs})
	etcdapi.RegisterMaintenance(n.grpc, n.header, n.store, n.alarms, c.QuotaBackendBytes)
	etcdapi.RegisterAuth(n.grpc, n.header, n.store)
	if n.local, err = etcdapi.NewLocalClient(core); err != nil {
		return err
	}
	etcdapi.RegisterLock(n.grpc, n.local.Client())
	etcdapi.RegisterElection(n.grpc, n.local.Client())
	return nil
}

// startBackground starts what works by itself.
func (n *node) startBackground(c server.Config) error {
	ctx, cancel := context.WithCancel(context.Background())
	stopLeases := n.stop
	n.stop = func() { cancel(); stopLeases() }
	planner, err := compactor.Parse(c.AutoCompactionMode, c.AutoCompactionRetention)
	if err != nil {
		return err
	}
	n.wg.Go(func() { n.damage.Run(ctx, n.alarms, n.header.MemberID) })
	if planner != nil {
		n.wg.Go(func() { compactor.Run(ctx, n.log, planner, n.store, mvcc.ErrCompacted) })
	}
	if n.quota > 0 {
		n.wg.Go(func() { n.watchQuota(ctx) })
	}
	return nil
}

// drain ends the watch streams; the lease keeper goes on for requests under way.
func (n *node) drain(context.Context) { n.hub.Drain() }

// waitBackground waits for the goroutines that stop has ended, or for writesGrace: one may wait for a disk that is
// full.
func (n *node) waitBackground() error {
	ended := make(chan struct{})
	go func() {
		n.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(writesGrace):
		return errors.New("background work has not ended: the disk does not answer")
	}
}

// close closes what has been opened, backwards. It may be called at any stage of open.
func (n *node) close() error {
	var errs []error
	if n.local != nil {
		errs = append(errs, n.local.Close())
	}
	if n.stop != nil {
		n.stop()
		errs = append(errs, n.waitBackground())
	}
	if n.hub != nil {
		n.hub.Close() // it reads from the store
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	if n.engine != nil {
		errs = append(errs, n.engine.Close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	return errors.Join(errs...)
}
