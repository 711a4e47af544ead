package etcdapi

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/watch"
)

// FuzzWatchEncode: the head of a response decodes to the response. Events are fuzzed in package watch, and the two
// together below.
func FuzzWatchEncode(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint64(2), int64(7), int64(0), true, false, int64(0), "", false)
	f.Add(uint64(1<<63), uint64(0), uint64(0), int64(0), int64(-1), true, true, int64(5),
		"etcdserver: too many requests", true)
	f.Add(uint64(3), uint64(4), uint64(0), int64(1<<62), int64(1<<40), false, true, int64(1<<62), "é", false)
	f.Fuzz(func(t *testing.T, cluster, member, term uint64, rev, id int64, created, canceled bool, compact int64,
		reason string, fragment bool,
	) {
		want := &pb.WatchResponse{
			Header:  &pb.ResponseHeader{ClusterId: cluster, MemberId: member, RaftTerm: term, Revision: rev},
			WatchId: id, Created: created, Canceled: canceled, CompactRevision: compact, CancelReason: reason,
			Fragment: fragment,
		}
		if _, err := proto.Marshal(want); err != nil {
			t.Skip() // a reason that is not UTF-8; ours are constants
		}
		enc := newWatchEncoder(Header{ClusterID: cluster, MemberID: member, RaftTerm: term})
		r := &watch.Response{
			WatchID: id, Revision: rev, Created: created, Canceled: canceled, CompactRevision: compact,
			CancelReason: reason,
		}
		b, err := enc.encode(watchMessage{r: r, fragment: fragment}).MarshalWire()
		if err != nil {
			t.Fatal(err)
		}
		var got pb.WatchResponse
		if err := proto.Unmarshal(b.Materialize(), &got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(want, &got) {
			t.Errorf("got %v, want %v", &got, want)
		}
	})
}

// TestWatchHeadFits: the head's buffer is never grown for a response without a reason.
func TestWatchHeadFits(t *testing.T) {
	enc := newWatchEncoder(Header{ClusterID: 1<<64 - 1, MemberID: 1<<64 - 1, RaftTerm: 1<<64 - 1})
	r := &watch.Response{WatchID: -1, Revision: -1, Created: true, Canceled: true, CompactRevision: -1}
	if n := len(enc.appendHead(nil, watchMessage{r: r, fragment: true})); n > maxWatchHead {
		t.Errorf("%d bytes, bound %d", n, maxWatchHead)
	}
}
