package etcdapi

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/watch"
)

// errorTable maps the errors of the libraries to etcd's (rpctypes/error.go). clientv3 looks at the text, other clients
// at the code. The first match counts, so more specific errors come first.
//
// ErrUnavailable becomes "request timed out". etcd uses that text for a write that may or may not have happened, and
// clients retry reads after Unavailable.
var errorTable = []struct{ err, grpc error }{
	{mvcc.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{mvcc.ErrFutureRevision, rpctypes.ErrGRPCFutureRev},
	{mvcc.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{mvcc.ErrLeaseNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{mvcc.ErrLeaseExists, rpctypes.ErrGRPCLeaseExist},
	{lease.ErrTTLTooLarge, rpctypes.ErrGRPCLeaseTTLTooLarge},
	{lease.ErrTooMany, rpctypes.ErrGRPCRequestTooManyRequests},
	{mvcc.ErrNoSpace, rpctypes.ErrGRPCNoSpace},
	{mvcc.ErrTooLarge, rpctypes.ErrGRPCRequestTooLarge},
	{mvcc.ErrTooManyRequests, rpctypes.ErrGRPCRequestTooManyRequests},
	{watch.ErrTooManyStreams, rpctypes.ErrGRPCRequestTooManyRequests},
	{mvcc.ErrClosed, rpctypes.ErrGRPCStopped},
	{watch.ErrStopped, rpctypes.ErrGRPCStopped},
	{lease.ErrStopped, rpctypes.ErrGRPCStopped},
	{lease.ErrNotOwner, rpctypes.ErrGRPCNotLeader},
	{mvcc.ErrFenced, rpctypes.ErrGRPCNotLeader},
	{mvcc.ErrUnavailable, rpctypes.ErrGRPCTimeout},
	{mvcc.ErrFollowing, status.Error(codes.Unavailable,
		"headwater: the keyspace follows another one and takes no writes yet")},
	{mvcc.ErrUnfinished, status.Error(codes.Unavailable,
		"headwater: the keyspace takes over a large revision of its source")},
	{mvcc.ErrAuthOld, rpctypes.ErrGRPCAuthOldRevision},
	{mvcc.ErrDenied, rpctypes.ErrGRPCPermissionDenied},
	{auth.ErrRootUserNotExist, rpctypes.ErrGRPCRootUserNotExist},
	{auth.ErrRootRoleNotExist, rpctypes.ErrGRPCRootRoleNotExist},
	{auth.ErrUserAlreadyExist, rpctypes.ErrGRPCUserAlreadyExist},
	{auth.ErrUserEmpty, rpctypes.ErrGRPCUserEmpty},
	{auth.ErrUserNotFound, rpctypes.ErrGRPCUserNotFound},
	{auth.ErrRoleAlreadyExist, rpctypes.ErrGRPCRoleAlreadyExist},
	{auth.ErrRoleNotFound, rpctypes.ErrGRPCRoleNotFound},
	{auth.ErrRoleEmpty, rpctypes.ErrGRPCRoleEmpty},
	{auth.ErrAuthFailed, rpctypes.ErrGRPCAuthFailed},
	{auth.ErrPermissionNotGiven, rpctypes.ErrGRPCPermissionNotGiven},
	{auth.ErrPermissionDenied, rpctypes.ErrGRPCPermissionDenied},
	{auth.ErrRoleNotGranted, rpctypes.ErrGRPCRoleNotGranted},
	{auth.ErrPermissionNotGranted, rpctypes.ErrGRPCPermissionNotGranted},
	{auth.ErrAuthNotEnabled, rpctypes.ErrGRPCAuthNotEnabled},
	{auth.ErrAuthOldRevision, rpctypes.ErrGRPCAuthOldRevision},
	{auth.ErrInvalidAuthToken, rpctypes.ErrGRPCInvalidAuthToken},
	{auth.ErrInvalidAuthMgmt, rpctypes.ErrGRPCInvalidAuthMgmt},
	{auth.ErrHashCost, status.Error(codes.InvalidArgument, "headwater: the cost of the hashed password is too high")},
	{auth.ErrBusy, rpctypes.ErrGRPCRequestTooManyRequests},
}

// Err turns an error of the libraries into the gRPC error that etcd would send. An error that has a gRPC status passes
// unchanged, and so does that of a context, which grpc-go maps itself. An unknown error becomes Unknown, as in etcd.
func Err(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, mvcc.ErrCorrupt) {
		return damageErr(err)
	}
	for i := range errorTable {
		if errors.Is(err, errorTable[i].err) {
			return errorTable[i].grpc
		}
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unknown, err.Error())
}
