package watchload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/bench/load"
)

const (
	// markersPerTxn is below the 128 operations that servers allow in a transaction by default.
	markersPerTxn = 100
	markerTxns    = 4 // at once
)

// Reconnect measures how long Watchers watchers take to come back. All come back at once, over new connections, to a
// server whose revision has advanced by History since they left. Each watches a prefix of its own, and the missed
// writes are spread over all prefixes, so that every watcher has some to catch up with. When all watches have been
// requested, Reconnect makes one more write under each prefix. A watcher is live when it has received that write.
func Reconnect(ctx context.Context, o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	if o.History < int64(o.Watchers) {
		return Result{}, fmt.Errorf("history %d leaves some of %d watchers nothing to catch up with", o.History,
			o.Watchers)
	}
	writeConns, err := dial(o.Endpoint, o.WriteConns)
	if err != nil {
		return Result{}, err
	}
	defer closeAll(writeConns)
	if err := connect(ctx, writeConns); err != nil {
		return Result{}, err
	}
	left, err := head(ctx, writeConns[0])
	if err != nil {
		return Result{}, err
	}
	historyRate, err := o.writeHistory(ctx, writeConns)
	if err != nil {
		return Result{}, err
	}
	watchConns, err := dial(o.Endpoint, o.Conns)
	if err != nil {
		return Result{}, err
	}
	defer closeAll(watchConns)

	var m load.Meter
	if err := m.Start(o.ServerPID); err != nil {
		return Result{}, err
	}
	started := now()
	live, created, err := o.comeBack(ctx, watchConns, writeConns, left+1)
	if err != nil {
		return Result{}, err
	}
	if err := m.Stop(); err != nil {
		return Result{}, err
	}
	after := func(at int64) float64 { return time.Duration(at - started).Seconds() }
	return Result{Command: "watch-reconnect", Others: m.Used(0).Others, Values: map[string]float64{
		LiveAll: after(live[len(live)-1]), LiveMedian: after(live[len(live)/2]), CreateAll: after(created),
		HistoryRate: historyRate, CPUCores: m.Used(0).CPUPerSecond,
	}}, nil
}

// markerKey is the key under the prefix of watch i that all writes go to.
func markerKey(i int) string {
	key, _ := ownPrefix(i)
	return key + "k"
}

// writeHistory writes what the watchers missed.
func (o *Options) writeHistory(ctx context.Context, conns []*grpc.ClientConn) (perSecond float64, err error) {
	w := &writer{
		conns: conns, clients: o.Clients, bodies: newBodies(o.ValSize, o.Seed), hist: newHistogram(),
		key: func(n int64) string { return markerKey(int(n % int64(o.Watchers))) },
	}
	begin := time.Now()
	if err := w.run(ctx, time.Time{}, o.History); err != nil {
		return 0, err
	}
	return float64(o.History) / time.Since(begin).Seconds(), nil
}

// comeBack opens all watches from a revision on, and writes the markers. It returns the times at which each became
// live, in order, and the time at which all had been created.
func (o *Options) comeBack(ctx context.Context, watchConns, writeConns []*grpc.ClientConn,
	from int64,
) (live []int64, created int64, err error) {
	want := func(i int) int64 {
		n := o.History / int64(o.Watchers)
		if int64(i) < o.History%int64(o.Watchers) {
			n++
		}
		return n + 1 // the marker
	}
	g, err := openGroup(ctx, watchConns, watchSpec{
		streams: o.Streams, perStream: o.Watchers / o.Streams, prevKV: o.PrevKV, startRev: from, want: want,
		interval: ownPrefix,
	})
	if err != nil {
		return nil, 0, err
	}
	defer g.close()
	if err := o.writeMarkers(ctx, writeConns); err != nil {
		return nil, 0, err
	}
	if err := g.awaitCreated(ctx); err != nil {
		return nil, 0, err
	}
	created = g.lastAt.Load()
	if err := g.await(ctx, "watchers live", g.size(), g.live.Load); err != nil {
		return nil, 0, err
	}
	g.close()
	if err := g.check(want); err != nil {
		return nil, 0, err
	}
	for _, s := range g.streams {
		for i := range s.watches {
			live = append(live, s.watches[i].liveAt)
		}
	}
	slices.Sort(live)
	return live, created, nil
}

// writeMarkers writes one key under each watcher's prefix.
func (o *Options) writeMarkers(ctx context.Context, conns []*grpc.ClientConn) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, markerTxns)
	for w := range markerTxns {
		wg.Go(func() {
			for errs[w] == nil {
				first := int(next.Add(markersPerTxn)) - markersPerTxn
				if first >= o.Watchers {
					return
				}
				errs[w] = conns[w%len(conns)].Invoke(ctx, methodTxn,
					markerTxn(first, min(first+markersPerTxn, o.Watchers)), &answer{})
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("marker: %w", err)
	}
	return nil
}

// markerTxn puts the markers of watches first to end-1.
func markerTxn(first, end int) *pb.TxnRequest {
	txn := &pb.TxnRequest{}
	for i := first; i < end; i++ {
		put := &pb.PutRequest{Key: []byte(markerKey(i)), Value: binary.LittleEndian.AppendUint64(nil, uint64(now()))}
		txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
	}
	return txn
}
