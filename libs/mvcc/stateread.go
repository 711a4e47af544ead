package mvcc

import (
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
)

// stateRead is one read of what every answer needs of its state: the head, and the number of users and roles. Those who
// ask a remote engine for a state at the same time get the same one, often dozens of them, and one read serves them
// all. Each row that is asked for costs the client library, the network and a server as much as the key itself.
type stateRead struct {
	version uint64
	done    chan struct{} // closed when the rest is set
	head    int64
	auth    uint64 // 0: it was not read, because there was no such row as far as was known
	err     error
}

// stateReading is a reader's part in a stateRead. Only the reader that has begun it has iterators.
type stateReading struct {
	s     *Store
	snap  engine.Snapshot
	read  *stateRead
	begun bool
	head  engine.Iterator
	auth  engine.Iterator
}

// readState starts to read the head of a snapshot's state, unless somebody has. finish must be called, or those who
// read the same state wait for ever.
func (s *Store) readState(ctx context.Context, snap engine.Snapshot) stateReading {
	version := snap.Version()
	for {
		last := s.state.Load()
		if last != nil && last.version == version {
			return stateReading{s: s, snap: snap, read: last}
		}
		r := &stateRead{version: version, done: make(chan struct{})}
		// An older state than the newest is read for this reader alone.
		if last != nil && last.version > version || s.state.CompareAndSwap(last, r) {
			return stateReading{
				s: s, snap: snap, read: r, begun: true, head: s.scanHead(ctx, snap), auth: s.scanAuth(ctx, snap),
			}
		}
	}
}

// finish returns the head and the number of users and roles, 0 if nobody has read it. If the read of another has
// failed, this reader reads by itself: the reason may be that the other's request has ended.
func (r *stateReading) finish(ctx context.Context) (head int64, auth uint64, err error) {
	if !r.begun {
		select {
		case <-r.read.done:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
		if r.read.err == nil {
			return r.read.head, r.read.auth, nil
		}
		r.read = &stateRead{done: make(chan struct{})}
		r.head, r.auth = r.s.scanHead(ctx, r.snap), r.s.scanAuth(ctx, r.snap)
	}
	own := r.read
	defer close(own.done)
	var authErr error
	own.head, _, own.err = r.s.parseHead(r.snap, r.head)
	if own.auth, authErr = r.s.parseAuth(r.snap, r.auth); own.err == nil {
		own.err = authErr
	}
	return own.head, own.auth, own.err
}

// learn is finish for a caller who needs the users and roles of the state even where it is the first that is known to
// have any.
func (r *stateReading) learn(ctx context.Context) (head int64, err error) {
	head, auth, err := r.finish(ctx)
	if err == nil && auth == 0 && r.s.Features().Has(FeatureAuth) {
		_, err = r.s.authOf(ctx, r.snap)
	}
	return head, err
}
