package mvcc

import "errors"

// The errors of the data model. Services translate them into etcd's codes and texts. All of them mean that nothing has
// been written, except ErrUnavailable, after which the outcome of a write is unknown.
var (
	ErrCompacted      = errors.New("mvcc: required revision has been compacted")
	ErrFutureRevision = errors.New("mvcc: required revision is a future revision")
	ErrNoSpace        = errors.New("mvcc: database space exceeded")
	ErrLeaseNotFound  = errors.New("mvcc: requested lease not found")
	ErrLeaseExists    = errors.New("mvcc: lease already exists")
	// ErrLeaseEnding: the lease's keys do not fit in one transaction. For clients the lease is gone, and
	// Store.LeaseRevokeStep must be called until it is done.
	ErrLeaseEnding     = errors.New("mvcc: lease ends in steps")
	ErrKeyNotFound     = errors.New("mvcc: key not found")
	ErrTooManyRequests = errors.New("mvcc: too many requests")
	ErrTooLarge        = errors.New("mvcc: request is too large")
	ErrFenced          = errors.New("mvcc: a newer lease owner has taken over")
	ErrUnavailable     = errors.New("mvcc: store unavailable")
	ErrCorrupt         = errors.New("mvcc: corrupt data")
	// ErrAuthOld: users and roles have changed since the request was allowed.
	ErrAuthOld = errors.New("mvcc: users and roles have changed")
	// ErrDenied: the request's user may not write a key on a lease.
	ErrDenied = errors.New("mvcc: a key on the lease may not be written")
	ErrClosed = errors.New("mvcc: store closed")
	// ErrNewerFormat: a later release has written the keyspace, or has activated features of it while it was open.
	ErrNewerFormat = errors.New("mvcc: the keyspace was written by a newer version")
	// ErrSetBack: the database's version is below the keyspace's head, as after a restore. Revisions would go
	// backwards. The message says what to do (docs/design.md §2).
	ErrSetBack = errors.New("mvcc: the database has been set back")
)
