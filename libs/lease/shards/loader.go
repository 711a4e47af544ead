package shards

import (
	"context"
	"errors"
	"sync"

	"github.com/headwaterdb/headwater/libs/lease"
)

// loader lets those who read all leases at the same time share one scan: a pod that takes over sixteen shards reads
// the leases twice, not sixteen times. A caller gets a scan that began after its call.
type loader struct {
	lease.Store

	mu   sync.Mutex
	next *load // not yet begun: may be joined
	last *load // begun last
}

// load is one scan.
type load struct {
	leases []leaseRow
	err    error
	done   chan struct{} // closed when the fields above are set
}

type leaseRow struct{ id, ttl int64 }

// Leases implements lease.Store.
func (l *loader) Leases(ctx context.Context, visit func(id, ttl int64) error) error {
	for {
		ld, mine := l.join()
		if mine {
			l.run(ctx, ld)
		}
		select {
		case <-ld.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !mine && (errors.Is(ld.err, context.Canceled) || errors.Is(ld.err, context.DeadlineExceeded)) {
			continue // it was another's context
		}
		if ld.err != nil {
			return ld.err
		}
		for _, r := range ld.leases {
			if err := visit(r.id, r.ttl); err != nil {
				return err
			}
		}
		return nil
	}
}

// join returns the next scan; mine means that the caller has to run it.
func (l *loader) join() (ld *load, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = &load{done: make(chan struct{})}
		mine = true
	}
	return l.next, mine
}

// run scans after the scan under way has ended: meanwhile others join.
func (l *loader) run(ctx context.Context, ld *load) {
	defer close(ld.done)
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	if last != nil {
		select {
		case <-last.done:
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	l.next, l.last = nil, ld
	l.mu.Unlock()
	ld.err = l.Store.Leases(ctx, func(id, ttl int64) error {
		ld.leases = append(ld.leases, leaseRow{id, ttl})
		return nil
	})
}
