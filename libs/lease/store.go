package lease

import (
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Store holds the leases as rows. mvcc.Store implements it.
//
// The keeper calls LeaseGrant and LeaseRevoke for a client with a context that is never cancelled, so that their error
// is the outcome and not a cancellation. All methods may be called from any goroutine.
type Store interface {
	// ClaimLeases makes the caller the owner of a shard of the keyspace's leases: every fence of the shard handed out
	// before is void from then on.
	ClaimLeases(ctx context.Context, shard int) (mvcc.Fence, error)
	// LeaseGrant writes the row of a lease that does not exist yet. ttl is in seconds; rev is the keyspace's revision
	// after the request, which a grant does not change. With a fence it does so only while the fence is the newest of
	// its shard. Errors: mvcc.ErrLeaseExists, mvcc.ErrFenced, mvcc.ErrNoSpace, those of any write.
	LeaseGrant(ctx context.Context, id, ttl int64, fence *mvcc.Fence) (rev int64, err error)
	// LeaseRevoke deletes the row and every attached key in one revision. With a fence it does so only while the fence
	// is the newest. Errors: mvcc.ErrLeaseNotFound, mvcc.ErrFenced, those of any write, and mvcc.ErrLeaseEnding: the
	// keys are too many for one revision. The lease then no longer exists for clients, and LeaseRevokeStep must be
	// called until it is done.
	LeaseRevoke(ctx context.Context, id int64, fence *mvcc.Fence) (rev int64, err error)
	// LeaseRevokeStep deletes some of the keys of a lease that is ending. With the last of them it deletes the row, and
	// done is true. Errors: mvcc.ErrLeaseNotFound, mvcc.ErrFenced, those of any write.
	LeaseRevokeStep(ctx context.Context, id int64, fence *mvcc.Fence) (rev int64, done bool, err error)
	// LeaseKeys returns the keys attached to a lease, sorted, and the keyspace's revision at that moment. A lease
	// that does not exist has none.
	LeaseKeys(ctx context.Context, id int64) (keys [][]byte, rev int64, err error)
	// Leases visits every lease row and stops at the first error of visit, which it returns. ttl is mvcc.LeaseEnding
	// for a lease that is ending.
	Leases(ctx context.Context, visit func(id, ttl int64) error) error
	// Head returns the keyspace's last durable revision, which is not below any revision acknowledged before the call.
	Head(ctx context.Context) (int64, error)
}

// refused reports whether err says that the write was not made and never will be. After any other error,
// mvcc.ErrUnavailable above all, it may have been made, or may yet be.
func refused(err error) bool {
	for _, known := range []error{
		mvcc.ErrLeaseExists, mvcc.ErrLeaseNotFound, mvcc.ErrFenced, mvcc.ErrAuthOld, mvcc.ErrDenied,
		mvcc.ErrNoSpace, mvcc.ErrTooManyRequests, mvcc.ErrTooLarge, mvcc.ErrCorrupt, mvcc.ErrClosed,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
