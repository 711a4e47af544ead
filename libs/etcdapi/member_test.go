package etcdapi

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/headwaterdb/headwater/libs/alarm"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

const memberHead = 42

var memberHeader = Header{ClusterID: 11, MemberID: 22, RaftTerm: 2}

// fakeRows is a keyspace that only knows its head, its alarms and a hash.
type fakeRows struct {
	names   []string
	refuse  bool
	fail    error
	hashErr error

	defragmented int
}

func (f *fakeRows) Head(context.Context) (int64, error) { return memberHead, nil }
func (f *fakeRows) Sizes() (total, inUse int64)         { return 1000, 600 }

func (f *fakeRows) HashKV(_ context.Context, rev int64) (uint32, int64, int64, int64, error) {
	if rev == 0 {
		rev = memberHead
	}
	return 0xfeed, rev, 5, memberHead, f.hashErr
}

// Defragment counts its calls, and fails as everything does.
func (f *fakeRows) Defragment(ctx context.Context) error {
	f.defragmented++
	return errors.Join(f.fail, ctx.Err())
}

func (f *fakeRows) Alarms(context.Context) ([]string, error) { return f.names, f.fail }
func (f *fakeRows) RefuseGrowth(refuse bool)                 { f.refuse = refuse }

func (f *fakeRows) SetAlarm(_ context.Context, name string, on bool) error {
	if f.fail != nil {
		return f.fail
	}
	f.names = slices.DeleteFunc(f.names, func(n string) bool { return n == name })
	if on {
		f.names = append(f.names, name)
	}
	return nil
}

// services collects what Register functions register.
type services map[string]any

func (s services) RegisterService(d *grpc.ServiceDesc, impl any) { s[d.ServiceName] = impl }

func maintenance(t *testing.T, rows *fakeRows, quota int64) pb.MaintenanceServer {
	t.Helper()
	alarms, err := alarm.Open(t.Context(), rows)
	if err != nil {
		t.Fatal(err)
	}
	s := services{}
	RegisterMaintenance(s, memberHeader, rows, alarms, quota, nil)
	return s["etcdserverpb.Maintenance"].(pb.MaintenanceServer)
}

// check compares an answer and an error with what is wanted.
func check(t *testing.T, got proto.Message, err error, want proto.Message, wantErr error) {
	t.Helper()
	if wantErr != nil {
		if status.Code(err) != status.Code(wantErr) ||
			status.Convert(err).Message() != status.Convert(wantErr).Message() {
			t.Errorf("error %v, want %v", err, wantErr)
		}
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func header(rev int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 11, MemberId: 22, RaftTerm: 2, Revision: rev}
}

func TestCluster(t *testing.T) {
	s := services{}
	peers := []string{"http://a:2"}
	RegisterCluster(s, memberHeader, Member{Name: "n", ClientURLs: []string{"http://a:1"}, PeerURLs: peers})
	c := s["etcdserverpb.Cluster"].(pb.ClusterServer)
	ctx := t.Context()

	list, err := c.MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
	check(t, list, err, &pb.MemberListResponse{
		Header:  header(0),
		Members: []*pb.Member{{ID: 22, Name: "n", ClientURLs: []string{"http://a:1"}, PeerURLs: peers}},
	}, nil)
	_, err = c.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:2380"}})
	check(t, nil, err, nil, errOneMember)
	_, err = c.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"nonsense"}})
	check(t, nil, err, nil, rpctypes.ErrGRPCMemberBadURLs)
	_, err = c.MemberAdd(ctx, &pb.MemberAddRequest{})
	check(t, nil, err, nil, rpctypes.ErrGRPCMemberBadURLs)
	_, err = c.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: 22})
	check(t, nil, err, nil, rpctypes.ErrGRPCMemberNotEnoughStarted)
	_, err = c.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: 23})
	check(t, nil, err, nil, rpctypes.ErrGRPCMemberNotFound)
	_, err = c.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: 22})
	check(t, nil, err, nil, errOneMember)
	_, err = c.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: 23})
	check(t, nil, err, nil, rpctypes.ErrGRPCMemberNotFound)
	_, err = c.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: 22})
	check(t, nil, err, nil, rpctypes.ErrGRPCMemberNotLearner)
	_, err = c.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: 23})
	check(t, nil, err, nil, rpctypes.ErrGRPCMemberNotFound)
}

func TestStatus(t *testing.T) {
	m := maintenance(t, &fakeRows{names: []string{"1/16", "2/16"}}, 77)
	got, err := m.Status(t.Context(), &pb.StatusRequest{})
	check(t, got, err, &pb.StatusResponse{
		Header: header(memberHead), Version: "3.7.3", StorageVersion: "3.7.0", DbSize: 1000, DbSizeInUse: 600,
		DbSizeQuota: 77,
		Leader:      22, RaftIndex: memberHead, RaftAppliedIndex: memberHead, RaftTerm: 2,
		DowngradeInfo: &pb.DowngradeInfo{},
		Errors:        []string{"memberID:22 alarm:NOSPACE", "memberID:22 alarm:CORRUPT"},
	}, nil)
}

func TestAlarm(t *testing.T) {
	rows := &fakeRows{}
	m := maintenance(t, rows, 0)
	no, corrupt := &pb.AlarmMember{MemberID: 22, Alarm: pb.AlarmType_NOSPACE},
		&pb.AlarmMember{MemberID: math.MaxUint64, Alarm: pb.AlarmType_CORRUPT}
	for _, c := range []struct {
		action pb.AlarmRequest_AlarmAction
		alarm  *pb.AlarmMember
		want   []*pb.AlarmMember
		refuse bool
	}{
		{pb.AlarmRequest_GET, &pb.AlarmMember{}, nil, false},
		{pb.AlarmRequest_DEACTIVATE, no, nil, false},
		{pb.AlarmRequest_ACTIVATE, &pb.AlarmMember{MemberID: 22}, nil, false},
		{pb.AlarmRequest_ACTIVATE, corrupt, []*pb.AlarmMember{corrupt}, false},
		{pb.AlarmRequest_ACTIVATE, no, []*pb.AlarmMember{no}, true},
		{pb.AlarmRequest_ACTIVATE, no, []*pb.AlarmMember{no}, true},
		{pb.AlarmRequest_GET, &pb.AlarmMember{}, []*pb.AlarmMember{no, corrupt}, true},
		{pb.AlarmRequest_GET, &pb.AlarmMember{Alarm: pb.AlarmType_CORRUPT}, []*pb.AlarmMember{corrupt}, true},
		{pb.AlarmRequest_DEACTIVATE, no, []*pb.AlarmMember{no}, false},
		{pb.AlarmRequest_GET, &pb.AlarmMember{}, []*pb.AlarmMember{corrupt}, false},
	} {
		got, err := m.Alarm(t.Context(), &pb.AlarmRequest{
			Action: c.action, MemberID: c.alarm.MemberID, Alarm: c.alarm.Alarm,
		})
		check(t, got, err, &pb.AlarmResponse{Header: header(memberHead), Alarms: c.want}, nil)
		if rows.refuse != c.refuse {
			t.Errorf("%v %v: growth refused: %v", c.action, c.alarm, rows.refuse)
		}
	}
	if diff := cmp.Diff([]string{"2/ffffffffffffffff"}, rows.names); diff != "" {
		t.Error(diff)
	}
	_, err := m.Alarm(t.Context(), &pb.AlarmRequest{Action: 9})
	check(t, nil, err, nil, errUnknownAction)
	rows.fail = mvcc.ErrNoSpace
	_, err = m.Alarm(t.Context(), &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE})
	check(t, nil, err, nil, rpctypes.ErrGRPCNoSpace)
}

func TestMaintenance(t *testing.T) {
	rows := &fakeRows{}
	m := maintenance(t, rows, 0)
	ctx := t.Context()

	def, err := m.Defragment(ctx, &pb.DefragmentRequest{})
	check(t, def, err, &pb.DefragmentResponse{}, nil)
	if rows.defragmented != 1 {
		t.Errorf("the store was defragmented %d times", rows.defragmented)
	}
	rows.fail = mvcc.ErrNoSpace
	_, err = m.Defragment(ctx, &pb.DefragmentRequest{})
	check(t, nil, err, nil, rpctypes.ErrGRPCNoSpace)
	rows.fail = nil
	hash, err := m.Hash(ctx, &pb.HashRequest{})
	check(t, hash, err, &pb.HashResponse{Header: header(memberHead), Hash: 0xfeed}, nil)
	kv, err := m.HashKV(ctx, &pb.HashKVRequest{Revision: 7})
	check(t, kv, err, &pb.HashKVResponse{Header: header(memberHead), Hash: 0xfeed, HashRevision: 7, CompactRevision: 5},
		nil)
	rows.hashErr = mvcc.ErrFutureRevision
	_, err = m.HashKV(ctx, &pb.HashKVRequest{Revision: 99})
	check(t, nil, err, nil, rpctypes.ErrGRPCFutureRev)
	rows.hashErr = mvcc.ErrCompacted
	_, err = m.HashKV(ctx, &pb.HashKVRequest{Revision: 1})
	check(t, nil, err, nil, rpctypes.ErrGRPCCompacted)

	move, err := m.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 22})
	check(t, move, err, &pb.MoveLeaderResponse{}, nil)
	_, err = m.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 1})
	check(t, nil, err, nil, rpctypes.ErrGRPCBadLeaderTransferee)
}

func TestDowngrade(t *testing.T) {
	m := maintenance(t, &fakeRows{}, 0)
	for _, c := range []struct {
		action  pb.DowngradeRequest_DowngradeAction
		version string
		want    error
	}{
		{pb.DowngradeRequest_VALIDATE, "3.6", rpctypes.ErrGRPCInvalidDowngradeTargetVersion},
		{pb.DowngradeRequest_VALIDATE, "3.6.0", rpctypes.ErrGRPCInvalidDowngradeTargetVersion},
		{pb.DowngradeRequest_VALIDATE, "latest", rpctypes.ErrGRPCWrongDowngradeVersionFormat},
		{pb.DowngradeRequest_ENABLE, "3.5", rpctypes.ErrGRPCInvalidDowngradeTargetVersion},
		{pb.DowngradeRequest_ENABLE, "", rpctypes.ErrGRPCWrongDowngradeVersionFormat},
		{pb.DowngradeRequest_CANCEL, "", nil},
		{9, "", errUnknownAction},
	} {
		got, err := m.Downgrade(t.Context(), &pb.DowngradeRequest{Action: c.action, Version: c.version})
		check(t, got, err, &pb.DowngradeResponse{Header: header(memberHead), Version: "3.7"}, c.want)
	}
}
