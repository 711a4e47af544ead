package compose

import (
	"context"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/wire"
)

// decoder decodes the request of a unary call.
type decoder = func(any) error

// byUserName looks whether the user of an Authenticate names the keyspace (user@keyspace, by the last @), where nothing
// else does. If so it returns the call as if its metadata did, and the request with the name of the user alone. Errors:
// InvalidArgument, of decoding, of reading users and roles.
func (s *keyspaces) byUserName(ctx context.Context, dec decoder) (_ context.Context, _ decoder, named bool, err error) {
	name, err := s.chooser.asked(ctx)
	if err != nil || name != "" {
		return ctx, dec, false, err
	}
	r := new(pb.AuthenticateRequest)
	if err := dec(r); err != nil {
		return ctx, dec, false, err
	}
	at := strings.LastIndexByte(r.GetName(), '@')
	if at > 0 && at < len(r.GetName())-1 {
		literal, err := s.isUserOfFirst(ctx, r.GetName())
		if err != nil {
			return ctx, dec, false, notEntered(ctx, err)
		}
		named = !literal
	}
	if named {
		ctx = namedByUser(ctx, r.GetName()[at+1:])
		r.Name = r.GetName()[:at]
	}
	return ctx, decoded(r), named, nil
}

// isUserOfFirst tells whether the first keyspace has a user of a name, as far as the client may enter it.
func (s *keyspaces) isUserOfFirst(ctx context.Context, name string) (bool, error) {
	rule := s.door.Load().rule
	if !admits(ctx, rule) && !slices.Contains(keyspace.Users(rule), name) {
		return false, nil
	}
	return s.first.guard.HasUser(ctx, name)
}

// namedByUser returns the context of a call for a token whose user names a keyspace.
func namedByUser(ctx context.Context, name string) context.Context {
	in, _ := metadata.FromIncomingContext(withName(ctx, name)) // a copy
	in.Set(etcdapi.NamedByUser, name)
	return metadata.NewIncomingContext(ctx, in)
}

// decoded decodes a request that has been decoded already, for a service of this process or for another pod.
func decoded(r proto.Message) decoder {
	return func(v any) error {
		b, err := proto.Marshal(r)
		if err != nil {
			return err
		}
		if f, ok := v.(*wire.Frame); ok {
			f.Set(b)
			return nil
		}
		return wire.Codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, v)
	}
}
