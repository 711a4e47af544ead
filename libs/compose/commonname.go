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

// refuseCommonName refuses requests to the JSON gateway of clients whose certificates have a common name, as etcd does,
// if that would be a user over gRPC (with --client-cert-auth). Through the gateway they would be no user.
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

// authEnabled says whether authentication is enabled in the keyspace of ctx's call, the context of an HTTP request. If
// that is not known, the answer to the call itself has the reason.
func (d *Deployment) authEnabled(ctx context.Context) bool {
	if v := metadata.ValueFromIncomingContext(ctx, KeyspaceMetadata); len(v) > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, KeyspaceMetadata, v[0])
	}
	status, err := pb.NewAuthClient(d.GRPC.Local()).AuthStatus(ctx, &pb.AuthStatusRequest{})
	return err == nil && status.GetEnabled()
}
