package etcdapi

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/watch"
)

// wantWatchRequest is what protobuf read, as a watchRequest.
func wantWatchRequest(m *pb.WatchRequest) (r watchRequest) {
	switch u := m.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		c := u.CreateRequest
		r.kind, r.create = watchCreate, watch.CreateRequest{
			Key: c.GetKey(), RangeEnd: c.GetRangeEnd(), StartRevision: c.GetStartRevision(), WatchID: c.GetWatchId(),
			PrevKV: c.GetPrevKv(), ProgressNotify: c.GetProgressNotify(), Fragment: c.GetFragment(),
		}
		for _, f := range c.GetFilters() {
			switch f {
			case pb.WatchCreateRequest_NOPUT:
				r.create.Filter |= watch.NoPut
			case pb.WatchCreateRequest_NODELETE:
				r.create.Filter |= watch.NoDelete
			}
		}
	case *pb.WatchRequest_CancelRequest:
		r.kind, r.cancel = watchCancel, u.CancelRequest.GetWatchId()
	case *pb.WatchRequest_ProgressRequest:
		r.kind = watchProgress
	}
	return r
}

// FuzzWatchRequest: the decoder by hand accepts what protobuf accepts, and reads the same.
func FuzzWatchRequest(f *testing.F) {
	create := &pb.WatchCreateRequest{
		Key: []byte("k"), RangeEnd: []byte("l"), StartRevision: 1 << 40, ProgressNotify: true, PrevKv: true,
		WatchId: -1, Fragment: true,
		Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE, pb.WatchCreateRequest_NOPUT, 7},
	}
	var all []byte
	for _, m := range []*pb.WatchRequest{
		{},
		{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}},
		{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte{0}}}},
		{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 5}}},
		{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, b...)) // merged
		all = append(all, b...)
	}
	f.Add(all)                                              // the last of the union
	f.Add([]byte{0x0a, 6, 0x28, 1, 0x28, 0, 0x2d, 1})       // filters that are not packed, and a wrong type
	f.Add([]byte{0x22, 1, 2, 0x08, 7, 0x0b, 0x0c, 0x1a, 0}) // unknown fields and a group
	f.Add([]byte{0x0a, 200})
	f.Add([]byte{0x0a, 3, 0x2a, 1, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pb.WatchRequest
		got := watchRequest{kind: watchCancel, cancel: 99} // is reused from request to request
		wantErr, gotErr := proto.Unmarshal(b, &m), got.UnmarshalWire(bytes.Clone(b))
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("%x: error %v, protobuf: %v", b, gotErr, wantErr)
		}
		if wantErr != nil {
			return
		}
		want := wantWatchRequest(&m)
		for _, p := range []*[]byte{&want.create.Key, &want.create.RangeEnd, &got.create.Key, &got.create.RangeEnd} {
			if len(*p) == 0 {
				*p = nil
			}
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(watchRequest{})); diff != "" {
			t.Fatalf("%x (-protobuf +got):\n%s", b, diff)
		}
	})
}
