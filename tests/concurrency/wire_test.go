package concurrency

import (
	"testing"

	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/protobuf/reflect/protoreflect"

	cpb "github.com/headwaterdb/headwater/protos/headwater/concurrency/v1"
)

// TestWireFormat: for every message of etcd's two services we have one with the same fields. Messages with equal
// descriptors have equal encodings.
func TestWireFormat(t *testing.T) {
	ours := cpb.File_headwater_concurrency_v1_concurrency_proto.Messages()
	n := 0
	for _, file := range []protoreflect.FileDescriptor{
		v3lockpb.File_v3lock_proto, v3electionpb.File_v3election_proto,
	} {
		for i := range file.Messages().Len() {
			theirs := file.Messages().Get(i)
			our := ours.ByName(theirs.Name())
			if our == nil {
				t.Errorf("no message %s", theirs.Name())
				continue
			}
			sameMessage(t, our, theirs)
			n++
		}
	}
	if n+2 != ours.Len() { // ours also has the two messages that they use: the header and the key
		t.Errorf("%d messages of ours, %d of etcd's", ours.Len(), n)
	}
}

func sameMessage(t *testing.T, our, their protoreflect.MessageDescriptor) {
	t.Helper()
	if our.Fields().Len() != their.Fields().Len() {
		t.Errorf("%s: %d fields, etcd has %d", our.Name(), our.Fields().Len(), their.Fields().Len())
	}
	for i := range their.Fields().Len() {
		want := their.Fields().Get(i)
		got := our.Fields().ByNumber(want.Number())
		switch {
		case got == nil:
			t.Errorf("%s: no field %d (%s)", our.Name(), want.Number(), want.Name())
		case got.Name() != want.Name(), got.Kind() != want.Kind(), got.Cardinality() != want.Cardinality():
			t.Errorf("%s.%s: %v %v, etcd: %s %v %v", our.Name(), got.Name(), got.Cardinality(), got.Kind(),
				want.Name(), want.Cardinality(), want.Kind())
		case got.Message() != nil:
			sameMessage(t, got.Message(), want.Message())
		}
	}
}
