package sidebyside

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// TestUnknownMethods compares the errors for services and methods that do not exist. (etcd has no reflection either.)
func TestUnknownMethods(t *testing.T) { compareUnknownMethods(t, sut(t)) }

func compareUnknownMethods(t *testing.T, under starter) {
	t.Helper()
	pair, err := NewPair(under)
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	for _, method := range []string{
		"/etcdserverpb.KV/Nope", "/etcdserverpb.Nope/Range", "/v3lockpb.Lock/Nope", "/v3electionpb.Election/Nope",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/Nope",
		"/etcdserverpb.Lease/LeaseCheckpoint",
	} {
		ref, got := pair.both(func(target *Target) outcome {
			var in, out []byte
			if err := target.conn.Invoke(context.Background(), method, &in, &out,
				grpc.ForceCodec(rawCodec{})); err != nil {
				return failed(err)
			}
			return outcome{}
		})
		if ref.err != got.err {
			t.Errorf("%s: etcd %q, headwater %q", method, ref.err, got.err)
		}
	}
}

// TestMetadata sends the metadata of clientv3: the demand for a leader and the client's version.
func TestMetadata(t *testing.T) { compareMetadata(t, sut(t)) }

func compareMetadata(t *testing.T, under starter) {
	t.Helper()
	pair, err := NewPair(under)
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	for _, md := range []metadata.MD{
		metadata.Pairs("hasleader", "true"), metadata.Pairs("hasleader", "false"),
		metadata.Pairs("hasleader", "nonsense"),
		metadata.Pairs("client-api-version", "3.7.3", "hasleader", "true"),
		metadata.Pairs("client-api-version", "no version"),
		metadata.Pairs("source", "cache", "token", "unknown-token"), metadata.Pairs("authorization", "Bearer x"),
	} {
		ref, got := pair.both(func(target *Target) outcome {
			ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(context.Background(), md), callTimeout)
			defer cancel()
			if _, err := target.clients.kv.Put(ctx, &pb.PutRequest{Key: []byte("a")}); err != nil {
				return failed(err)
			}
			if _, err := target.clients.keepAliveOnce(ctx, &pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
				return failed(err)
			}
			watch, err := target.clients.watch.Watch(ctx)
			if err != nil {
				return failed(err)
			}
			req := &pb.WatchRequest{
				RequestUnion: &pb.WatchRequest_CreateRequest{
					CreateRequest: &pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 1},
				},
			}
			if err := watch.Send(req); err != nil {
				return failed(err)
			}
			for range 2 { // the creation, and the put
				if _, err := watch.Recv(); err != nil {
					return failed(err)
				}
			}
			return outcome{}
		})
		if ref.err != got.err {
			t.Errorf("%v: etcd %q, headwater %q", md, ref.err, got.err)
		}
	}
}
