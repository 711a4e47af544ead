package compose

import (
	"context"
	"net/http"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"

	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/tlsconf"
)

// commonNameIgnored is etcd's text.
const commonNameIgnored = "CommonName of client sending a request against gateway " +
	"will be ignored and not used as expected"

// refuseCommonName refuses, as etcd does, requests to the JSON gateway of clients whose certificates have a common
// name, where that would be a user over gRPC (with --client-cert-auth): they would be nobody there.
func (d *Deployment) refuseCommonName(r *http.Request) string {
	ctx := server.CallContext(r, KeyspaceMetadata)
	if id, ok := tlsconf.FromContext(ctx); !ok || id.CommonName == "" {
		return ""
	}
	if !d.authEnabled(ctx) {
		return ""
	}
	return commonNameIgnored
}

// authEnabled tells whether the keyspace asks for users that the call of ctx is for, one of an HTTP request. Where that
// cannot be told, the call itself is answered with why.
func (d *Deployment) authEnabled(ctx context.Context) bool {
	if v := metadata.ValueFromIncomingContext(ctx, KeyspaceMetadata); len(v) > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, KeyspaceMetadata, v[0])
	}
	status, err := pb.NewAuthClient(d.GRPC.Local()).AuthStatus(ctx, &pb.AuthStatusRequest{})
	return err == nil && status.GetEnabled()
}
