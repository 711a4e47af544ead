package gateway

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// binding is one path of the gateway.
type binding struct {
	path          string
	clientStreams bool
}

// bindings returns all paths of etcd's gateway, which etcd's protobuf files define.
func bindings(t *testing.T) (all []binding) {
	t.Helper()
	for _, file := range []protoreflect.FileDescriptor{
		pb.File_rpc_proto, v3lockpb.File_v3lock_proto, v3electionpb.File_v3election_proto,
	} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
				if !ok || rule == nil {
					continue // RangeStream
				}
				for _, r := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
					all = append(all, binding{r.GetPost(), m.IsStreamingClient()})
				}
			}
		}
	}
	if len(all) < 45 {
		t.Fatalf("only %d paths", len(all))
	}
	return all
}

// compareBindings sends requests to every path that change nothing.
func compareBindings(t *testing.T, theirs, ours *side) {
	t.Helper()
	for _, b := range bindings(t) {
		if b.path == "" {
			t.Fatal("a path that is not for POST")
		}
		requests := []request{
			{method: "GET", path: b.path},
			{method: "PUT", path: b.path, body: "{}"},
			{method: "HEAD", path: b.path},
			{method: "OPTIONS", path: b.path},
			{method: "NOPE", path: b.path},
			{path: b.path + "/"},
			{path: b.path + "/nope"},
		}
		if !b.clientStreams { // etcd does not answer those
			for _, body := range []string{
				"{bad", "[]", `"a"`,
				`{"key":5,"ID":"x","name":1,"alarm":"NOPE","action":[],"limit":{},"leader":2,"revision":"a"`,
			} {
				requests = append(requests, request{path: b.path, body: body})
			}
		}
		compare(t, theirs, ours, requests...)
	}
}
