package compose

import (
	"cmp"
	"context"
	"net"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/relay"
	"github.com/headwaterdb/headwater/libs/tlsconf"
)

// KeyspaceMetadata is the metadata in which a client can name the keyspace of its calls.
const KeyspaceMetadata = "headwater-keyspace"

// Errors of a call whose keyspace is not known or cannot be served.
var (
	errNoKeyspace = status.Error(codes.NotFound, "headwater: keyspace not found")
	errNoEntry    = status.Error(
		codes.PermissionDenied,
		"headwater: the client may not enter the keyspace, or there is none",
	)
	errTwoHosts = status.Error(
		codes.InvalidArgument,
		"headwater: the host and the server name of TLS name different keyspaces",
	)
	errTwoKeyspaces = status.Error(codes.InvalidArgument, "headwater: host and metadata name different keyspaces")
	errOwnPods      = status.Error(codes.FailedPrecondition, "headwater: the keyspace has pods of its own")
	errOnePods      = status.Error(
		codes.FailedPrecondition,
		"headwater: these pods serve one keyspace; create another through them first",
	)
	errMoved    = status.Error(codes.Unavailable, "headwater: the leases are kept by another pod now, try again")
	errDeleted  = status.Error(codes.NotFound, "headwater: keyspace has been deleted")
	errReopened = status.Error(codes.Unavailable, "headwater: the keyspace's settings have changed, try again")
	errFailed   = status.Error(codes.Unavailable, "headwater: the keyspace has failed, try again")
	errAway     = status.Error(codes.Unavailable, "headwater: the store cannot be reached, try again")
	errClosing  = status.Error(codes.Unavailable, "headwater: the server is stopping")
)

// chooser tells which keyspace a call is for: its host, or the server name of its connection's handshake, says it below
// the domain of keyspaces, or its metadata; where they say nothing, and it is wanted, its token.
type chooser struct {
	domain string // such as ".etcd.example.com", in small letters; "": hosts say nothing
	tokens bool   // tokens may name keyspaces, where nothing else does
}

func newChooser(domain string, tokens bool) chooser {
	if domain != "" {
		domain = "." + strings.ToLower(strings.Trim(domain, "."))
	}
	return chooser{domain, tokens}
}

// name returns the keyspace that the call of ctx names, or "". Errors: InvalidArgument.
func (c chooser) name(ctx context.Context) (string, error) {
	name, err := c.asked(ctx)
	if name == "" && err == nil && c.tokens {
		name = etcdapi.TokenKeyspace(ctx)
	}
	return name, err
}

// asked is the keyspace that the host or the metadata of a call names. Errors: InvalidArgument.
func (c chooser) asked(ctx context.Context) (string, error) {
	byHost, err := c.byHost(ctx)
	if err != nil {
		return "", err
	}
	byMetadata := ""
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

// byHost returns the keyspace that the host of a call names, or its connection. Errors: InvalidArgument.
func (c chooser) byHost(ctx context.Context) (string, error) {
	if c.domain == "" {
		return "", nil
	}
	authority := ""
	if v := metadata.ValueFromIncomingContext(ctx, ":authority"); len(v) > 0 {
		authority = c.below(v[0])
	}
	sni := c.below(tlsconf.ServerName(ctx))
	switch {
	case authority != "" && sni != "" && authority != sni:
		return "", errTwoHosts
	case relay.Relayed(ctx) || lease.Forwarded(ctx):
		// If another pod has passed on the call, its metadata names the keyspace, and its host is this pod.
		return "", nil
	}
	return cmp.Or(authority, sni), nil
}

// below returns what an authority has in front of the domain; "" if it is not below the domain.
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
