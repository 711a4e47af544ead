package sidebyside

import (
	"context"
	"errors"
	"fmt"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// kind says how to make and how to send the request of one kind of operation.
type kind struct {
	request func() proto.Message // nil: an action without request
	call    func(ctx context.Context, c *clients, req proto.Message) (proto.Message, error)
}

// clients are the raw stubs of one server.
type clients struct {
	kv      pb.KVClient
	watch   pb.WatchClient
	lease   pb.LeaseClient
	cluster pb.ClusterClient
	maint   pb.MaintenanceClient
	auth    pb.AuthClient
	conn    *grpc.ClientConn
}

// kinds is every operation that a sequence may hold.
var kinds = map[string]kind{
	kindWatch:          {request: func() proto.Message { return &pb.WatchRequest{} }},
	kindWatchClose:     {},
	kindWatchHalfClose: {},
	kindSync:           {},
	kindRaw: {
		request: func() proto.Message { return &anypb.Any{} },
		call: func(ctx context.Context, c *clients, req proto.Message) (proto.Message, error) {
			return c.raw(ctx, req.(*anypb.Any))
		},
	},
	kindRestart: {},

	"Range":       unary(func(c *clients) method[*pb.RangeRequest, *pb.RangeResponse] { return plain(c.kv.Range) }),
	"RangeStream": unary(func(c *clients) method[*pb.RangeRequest, *pb.RangeResponse] { return c.rangeStream }),
	"Put":         unary(func(c *clients) method[*pb.PutRequest, *pb.PutResponse] { return plain(c.kv.Put) }),
	"DeleteRange": unary(func(c *clients) method[*pb.DeleteRangeRequest, *pb.DeleteRangeResponse] {
		return plain(c.kv.DeleteRange)
	}),
	"Txn": unary(func(c *clients) method[*pb.TxnRequest, *pb.TxnResponse] { return plain(c.kv.Txn) }),
	"Compact": unary(
		func(c *clients) method[*pb.CompactionRequest, *pb.CompactionResponse] { return plain(c.kv.Compact) },
	),

	"LeaseGrant": unary(func(c *clients) method[*pb.LeaseGrantRequest, *pb.LeaseGrantResponse] {
		return plain(c.lease.LeaseGrant)
	}),
	"LeaseRevoke": unary(func(c *clients) method[*pb.LeaseRevokeRequest, *pb.LeaseRevokeResponse] {
		return plain(c.lease.LeaseRevoke)
	}),
	"LeaseKeepAlive": unary(
		func(c *clients) method[*pb.LeaseKeepAliveRequest, *pb.LeaseKeepAliveResponse] { return c.keepAliveOnce },
	),
	"LeaseTimeToLive": unary(func(c *clients) method[*pb.LeaseTimeToLiveRequest, *pb.LeaseTimeToLiveResponse] {
		return plain(c.lease.LeaseTimeToLive)
	}),
	"LeaseLeases": unary(func(c *clients) method[*pb.LeaseLeasesRequest, *pb.LeaseLeasesResponse] {
		return plain(c.lease.LeaseLeases)
	}),

	"MemberAdd": unary(func(c *clients) method[*pb.MemberAddRequest, *pb.MemberAddResponse] {
		return plain(c.cluster.MemberAdd)
	}),
	"MemberRemove": unary(func(c *clients) method[*pb.MemberRemoveRequest, *pb.MemberRemoveResponse] {
		return plain(c.cluster.MemberRemove)
	}),
	"MemberUpdate": unary(func(c *clients) method[*pb.MemberUpdateRequest, *pb.MemberUpdateResponse] {
		return plain(c.cluster.MemberUpdate)
	}),
	"MemberList": unary(func(c *clients) method[*pb.MemberListRequest, *pb.MemberListResponse] {
		return plain(c.cluster.MemberList)
	}),
	"MemberPromote": unary(func(c *clients) method[*pb.MemberPromoteRequest, *pb.MemberPromoteResponse] {
		return plain(c.cluster.MemberPromote)
	}),

	"Alarm":  unary(func(c *clients) method[*pb.AlarmRequest, *pb.AlarmResponse] { return plain(c.maint.Alarm) }),
	"Status": unary(func(c *clients) method[*pb.StatusRequest, *pb.StatusResponse] { return plain(c.maint.Status) }),
	"Defragment": unary(func(c *clients) method[*pb.DefragmentRequest, *pb.DefragmentResponse] {
		return plain(c.maint.Defragment)
	}),
	"Hash":   unary(func(c *clients) method[*pb.HashRequest, *pb.HashResponse] { return plain(c.maint.Hash) }),
	"HashKV": unary(func(c *clients) method[*pb.HashKVRequest, *pb.HashKVResponse] { return plain(c.maint.HashKV) }),
	"MoveLeader": unary(func(c *clients) method[*pb.MoveLeaderRequest, *pb.MoveLeaderResponse] {
		return plain(c.maint.MoveLeader)
	}),
	"Downgrade": unary(
		func(c *clients) method[*pb.DowngradeRequest, *pb.DowngradeResponse] { return plain(c.maint.Downgrade) },
	),

	"AuthStatus": unary(func(c *clients) method[*pb.AuthStatusRequest, *pb.AuthStatusResponse] {
		return plain(c.auth.AuthStatus)
	}),
	"AuthEnable": unary(func(c *clients) method[*pb.AuthEnableRequest, *pb.AuthEnableResponse] {
		return plain(c.auth.AuthEnable)
	}),
	"AuthDisable": unary(func(c *clients) method[*pb.AuthDisableRequest, *pb.AuthDisableResponse] {
		return plain(c.auth.AuthDisable)
	}),
	"Authenticate": unary(func(c *clients) method[*pb.AuthenticateRequest, *pb.AuthenticateResponse] {
		return plain(c.auth.Authenticate)
	}),
	"UserList": unary(func(c *clients) method[*pb.AuthUserListRequest, *pb.AuthUserListResponse] {
		return plain(c.auth.UserList)
	}),
	"UserGet": unary(
		func(c *clients) method[*pb.AuthUserGetRequest, *pb.AuthUserGetResponse] { return plain(c.auth.UserGet) },
	),
	"UserAdd": unary(
		func(c *clients) method[*pb.AuthUserAddRequest, *pb.AuthUserAddResponse] { return plain(c.auth.UserAdd) },
	),
	"UserDelete": unary(func(c *clients) method[*pb.AuthUserDeleteRequest, *pb.AuthUserDeleteResponse] {
		return plain(c.auth.UserDelete)
	}),
	"UserChangePassword": unary(
		func(c *clients) method[*pb.AuthUserChangePasswordRequest, *pb.AuthUserChangePasswordResponse] {
			return plain(c.auth.UserChangePassword)
		},
	),
	"UserGrantRole": unary(func(c *clients) method[*pb.AuthUserGrantRoleRequest, *pb.AuthUserGrantRoleResponse] {
		return plain(c.auth.UserGrantRole)
	}),
	"UserRevokeRole": unary(func(c *clients) method[*pb.AuthUserRevokeRoleRequest, *pb.AuthUserRevokeRoleResponse] {
		return plain(c.auth.UserRevokeRole)
	}),
	"RoleList": unary(func(c *clients) method[*pb.AuthRoleListRequest, *pb.AuthRoleListResponse] {
		return plain(c.auth.RoleList)
	}),
	"RoleAdd": unary(
		func(c *clients) method[*pb.AuthRoleAddRequest, *pb.AuthRoleAddResponse] { return plain(c.auth.RoleAdd) },
	),
	"RoleGet": unary(
		func(c *clients) method[*pb.AuthRoleGetRequest, *pb.AuthRoleGetResponse] { return plain(c.auth.RoleGet) },
	),
	"RoleDelete": unary(func(c *clients) method[*pb.AuthRoleDeleteRequest, *pb.AuthRoleDeleteResponse] {
		return plain(c.auth.RoleDelete)
	}),
	"RoleGrantPermission": unary(
		func(c *clients) method[*pb.AuthRoleGrantPermissionRequest, *pb.AuthRoleGrantPermissionResponse] {
			return plain(c.auth.RoleGrantPermission)
		},
	),
	"RoleRevokePermission": unary(
		func(c *clients) method[*pb.AuthRoleRevokePermissionRequest, *pb.AuthRoleRevokePermissionResponse] {
			return plain(c.auth.RoleRevokePermission)
		},
	),
}

type method[Q, R proto.Message] func(ctx context.Context, req Q) (R, error)

// plain drops the call options of a generated stub.
func plain[Q, R proto.Message, O any](stub func(context.Context, Q, ...O) (R, error)) method[Q, R] {
	return func(ctx context.Context, req Q) (R, error) { return stub(ctx, req) }
}

// unary makes the kind of a method with one request and one response.
func unary[Q, R proto.Message](of func(*clients) method[Q, R]) kind {
	return kind{
		request: func() proto.Message {
			var q Q
			return q.ProtoReflect().Type().New().Interface()
		},
		call: func(ctx context.Context, c *clients, req proto.Message) (proto.Message, error) {
			res, err := of(c)(ctx, req.(Q))
			if err != nil {
				return nil, err
			}
			return res, nil
		},
	}
}

// rangeStream joins the messages of a RangeStream into one response, and checks that only the last one carries
// header, more and count.
func (c *clients) rangeStream(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	stream, err := c.kv.RangeStream(ctx, req)
	if err != nil {
		return nil, err
	}
	joined := &pb.RangeResponse{}
	for n := 0; ; n++ {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return joined, nil
		}
		if err != nil {
			return nil, err
		}
		part := msg.GetRangeResponse()
		if joined.Header != nil || joined.More || joined.Count != 0 {
			return nil, fmt.Errorf("RangeStream message %d has header, more or count but is not the last", n-1)
		}
		joined.Kvs = append(joined.Kvs, part.GetKvs()...)
		joined.Header, joined.More, joined.Count = part.GetHeader(), part.GetMore(), part.GetCount()
	}
}

// keepAliveOnce opens a keep-alive stream, sends one request, takes one response and closes the stream.
func (c *clients) keepAliveOnce(
	ctx context.Context,
	req *pb.LeaseKeepAliveRequest,
) (*pb.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.lease.LeaseKeepAlive(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(req); err != nil {
		return nil, err
	}
	return stream.Recv()
}
