package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Log is the revision log of a keyspace; *mvcc.Store is one. Its methods may be called from any goroutine.
type Log interface {
	// Head returns the keyspace's last committed revision. It is not below any revision that was acknowledged before
	// the call.
	Head(ctx context.Context) (int64, error)
	// ReadPayloads returns committed entries with revision >= from, in order, up to maxEntries or maxBytes, but at
	// least one if there is any. next is the revision to go on from: the answer has all entries in [from, next).
	// compact is the compact revision; 0 or less: none. If entries from on have been removed, it fails with
	// mvcc.ErrCompacted.
	ReadPayloads(
		ctx context.Context, from int64, maxEntries, maxBytes int,
	) (p []revlog.Payload, next, compact int64, err error)
	// AuthNumber returns the number of the users and roles in the newest state that has been read. That state is not
	// older than the one from which ReadPayloads has answered before.
	AuthNumber() uint64
	// Check says whether an entry of this log can be decoded. It fails with mvcc.ErrCorrupt.
	Check(p revlog.Payload) error
	// WaitHead returns when the head may have reached rev.
	WaitHead(ctx context.Context, rev int64) error
}

var _ Log = (*mvcc.Store)(nil)

// Limits and times of both sides.
const (
	// ReadEntries and ReadBytes bound one read of the log.
	ReadEntries = 1024
	ReadBytes   = 2 << 20
	// ReadTimeout ends a read of the log that hangs. The read is then repeated.
	ReadTimeout = 5 * time.Second
	// retryMin and retryMax bound the pause after a failed read.
	retryMin = 10 * time.Millisecond
	retryMax = time.Second
	// DamagedRetry is the pause after a read that has met a damaged entry. To read it again at once is of no use: only
	// a compaction or a repair removes the damage.
	DamagedRetry = time.Minute
)

// Name returns the name of a keyspace on the bus. It differs for keyspaces of the same name in different clusters, and
// for a deleted keyspace and its successor.
func Name(keyspace string, clusterID uint64) string { return fmt.Sprintf("%s-%x", keyspace, clusterID) }

// read reads the log after a revision.
func read(ctx context.Context, log Log, after int64, maxEntries, maxBytes int) (s span, compact int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, ReadTimeout)
	defer cancel()
	entries, next, compact, err := log.ReadPayloads(ctx, after+1, maxEntries, maxBytes)
	if err != nil {
		return span{}, 0, err
	}
	return span{prev: after, upto: max(after, next-1), entries: entries, auth: log.AuthNumber()}, max(0, compact), nil
}

// cut says whether a read of the log ended at one of its bounds, so that there may be more. (It may also end early
// because its snapshot has become too old. A caller that then waits for the head does not wait long.)
func (s span) cut() bool {
	bytes := 0
	for _, p := range s.entries {
		bytes += len(p.Bytes)
	}
	return len(s.entries) >= ReadEntries || bytes >= ReadBytes
}

// head reads the head.
func head(ctx context.Context, log Log) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, ReadTimeout)
	defer cancel()
	return log.Head(ctx)
}

// isDamage says whether an entry of the log cannot be read or decoded.
func isDamage(err error) bool { return errors.Is(err, mvcc.ErrCorrupt) || errors.Is(err, errHole) }

// newPauses are the growing pauses between attempts to read.
func newPauses() retry.Pauses {
	return retry.Pauses{Policy: retry.Policy{Min: retryMin, Max: retryMax}}
}

// waiter waits for the head in a goroutine of its own, so that others can be waited for meanwhile. Its methods are
// called from one goroutine.
type waiter struct {
	asked   chan int64
	fired   chan struct{}
	waiting bool
	rev     int64 // what it waits for
}

func newWaiter() *waiter { return &waiter{asked: make(chan int64, 1), fired: make(chan struct{}, 1)} }

// run is the goroutine.
func (w *waiter) run(ctx context.Context, log Log) {
	r := newPauses()
	for {
		select {
		case rev := <-w.asked:
			if err := log.WaitHead(ctx, rev); err != nil {
				_ = r.Wait(ctx) // the reader will see for itself
			} else {
				r.Reset()
			}
			signal(w.fired)
		case <-ctx.Done():
			return
		}
	}
}

// ask makes fired fire when the head may have reached rev, unless it is waiting already.
func (w *waiter) ask(rev int64) {
	if !w.waiting {
		w.waiting, w.rev = true, rev
		w.asked <- rev
	}
}

// took says that fired has fired, and returns what was waited for.
func (w *waiter) took() int64 {
	w.waiting = false
	return w.rev
}

// signal leaves a token in a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
