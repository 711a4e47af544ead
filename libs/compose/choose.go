package compose

import (
	"context"
	"net"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/relay"
)

// KeyspaceMetadata is the metadata in which a client can name the keyspace that its calls are for.
const KeyspaceMetadata = "headwater-keyspace"

// Errors of a call whose keyspace cannot be told or served.
var (
	errNoKeyspace   = status.Error(codes.NotFound, "headwater: keyspace not found")
	errTwoKeyspaces = status.Error(codes.InvalidArgument, "headwater: host and metadata name different keyspaces")
	errOwnPods      = status.Error(codes.FailedPrecondition, "headwater: the keyspace has pods of its own")
	errOnePods      = status.Error(codes.FailedPrecondition, "headwater: these pods serve one keyspace; create another through them first")
	errMoved        = status.Error(codes.Unavailable, "headwater: the leases are kept by another pod now, try again")
	errDeleted      = status.Error(codes.NotFound, "headwater: keyspace has been deleted")
	errReopened     = status.Error(codes.Unavailable, "headwater: the keyspace's settings have changed, try again")
	errFailed       = status.Error(codes.Unavailable, "headwater: the keyspace has failed, try again")
	errClosing      = status.Error(codes.Unavailable, "headwater: the server is stopping")
)

// chooser tells which keyspace a call is for: its host says it below the domain of keyspaces, or its metadata.
type chooser struct {
	domain string // such as ".etcd.example.com", in small letters; "": hosts say nothing
}

func newChooser(domain string) chooser {
	if domain == "" {
		return chooser{}
	}
	return chooser{domain: "." + strings.ToLower(strings.Trim(domain, "."))}
}

// name is the keyspace that the call of ctx names, "" if it names none. Errors: InvalidArgument.
func (c chooser) name(ctx context.Context) (string, error) {
	var byHost, byMetadata string
	// What another pod passes on says its keyspace in metadata; its host is this pod.
	if c.domain != "" && !relay.Relayed(ctx) && !lease.Forwarded(ctx) {
		if v := metadata.ValueFromIncomingContext(ctx, ":authority"); len(v) > 0 {
			byHost = c.below(v[0])
		}
	}
	switch v := metadata.ValueFromIncomingContext(ctx, KeyspaceMetadata); {
	case len(v) > 1:
		return "", errTwoKeyspaces
	case len(v) == 1:
		byMetadata = v[0]
	}
	switch {
	case byMetadata == "":
		return byHost, nil
	case byHost != "" && byHost != byMetadata:
		return "", errTwoKeyspaces
	}
	return byMetadata, nil
}

// below is what an authority has in front of the domain; "" if it does not lie below it.
func (c chooser) below(authority string) string {
	host := authority
	if h, _, err := net.SplitHostPort(authority); err == nil {
		host = h
	}
	name, ok := strings.CutSuffix(strings.TrimSuffix(strings.ToLower(host), "."), c.domain)
	if !ok {
		return ""
	}
	return name
}
