package etcdapi

import (
	"context"
	"fmt"

	"github.com/coreos/go-semver/semver"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// AlarmStore stores the alarms of a keyspace so that they survive a restart. *alarm.State is one.
type AlarmStore interface {
	// Alarms returns the active alarms from memory, ordered by type and then member.
	Alarms() []*pb.AlarmMember
	// Refresh makes Alarms show what other processes have done before the call.
	Refresh(ctx context.Context) error
	// SetAlarm makes an alarm of a member active or clears it, durably. It reports whether that changed anything.
	SetAlarm(ctx context.Context, memberID uint64, alarm pb.AlarmType, active bool) (changed bool, err error)
}

// MaintenanceStore is what the Maintenance service needs of the keyspace.
type MaintenanceStore interface {
	HeadReader
	// Sizes returns the bytes on disk, and how many of them live data takes.
	Sizes() (total, inUse int64)
	// HashKV hashes the keyspace as it was at rev (0: now). Its errors are those of a read at rev.
	HashKV(ctx context.Context, rev int64) (hash uint32, hashRev, compactRev, head int64, err error)
	// Defragment gives back the space of deleted and replaced data. It returns when that is done or ctx has ended.
	Defragment(ctx context.Context) error
}

// ClusterVersion and StorageVersion are what etcd of EmulatedVersion reports for a cluster of its own minor version.
var (
	ClusterVersion = minorOf(EmulatedVersion) + ".0"
	StorageVersion = ClusterVersion
)

var (
	errUnknownAlarm  = status.Error(codes.InvalidArgument, "headwater: unknown alarm type")
	errUnknownAction = status.Error(codes.Unknown, "etcdserver: unknown method") // etcd's text, its only code for it
)

// RegisterMaintenance registers etcdserverpb.Maintenance. quota is what Status reports as dbSizeQuota, in bytes
// (0: none).
func RegisterMaintenance(
	r grpc.ServiceRegistrar, h Header, s MaintenanceStore, a AlarmStore, quota int64, snapshot MakeSnapshot,
) {
	pb.RegisterMaintenanceServer(
		r,
		&maintenanceServer{header: h, store: s, alarms: a, quota: quota, snapshot: snapshot},
	)
}

type maintenanceServer struct {
	header Header
	store  MaintenanceStore
	alarms AlarmStore
	quota  int64

	snapshot MakeSnapshot

	// UnsafeMaintenanceServer makes an RPC added to the API a compile error here.
	pb.UnsafeMaintenanceServer
}

// Status reports the head revision as raft index. Nobody can tell the difference, and tools only compare it over time.
func (s *maintenanceServer) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	head, err := s.store.Head(ctx)
	if err != nil {
		return nil, Err(err)
	}
	total, inUse := s.store.Sizes()
	resp := &pb.StatusResponse{
		Header:           s.header.At(head),
		Version:          EmulatedVersion,
		StorageVersion:   StorageVersion,
		DbSize:           max(1, total), // etcdctl divides by it, and the engine may not know it yet
		DbSizeInUse:      max(1, inUse), // JSON leaves out 0, and etcd's is never 0
		DbSizeQuota:      s.quota,
		Leader:           s.header.MemberID,
		RaftIndex:        uint64(head),
		RaftAppliedIndex: uint64(head),
		RaftTerm:         s.header.RaftTerm,
		DowngradeInfo:    &pb.DowngradeInfo{},
	}
	for _, a := range s.alarms.Alarms() {
		// The text form of AlarmMember, spelt out: protobuf's own is not stable.
		resp.Errors = append(resp.Errors, fmt.Sprintf("memberID:%d alarm:%s", a.GetMemberID(), a.GetAlarm()))
	}
	return resp, nil
}

// Alarm follows etcd's alarm store: activating an active alarm returns it, deactivating one that is not active returns
// none, and an alarm of type NONE is never stored.
func (s *maintenanceServer) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	resp := &pb.AlarmResponse{}
	switch r.GetAction() {
	case pb.AlarmRequest_GET:
		if err := s.alarms.Refresh(ctx); err != nil {
			return nil, Err(err)
		}
		for _, a := range s.alarms.Alarms() {
			if r.GetAlarm() == pb.AlarmType_NONE || r.GetAlarm() == a.GetAlarm() {
				resp.Alarms = append(resp.Alarms, a)
			}
		}
	case pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE:
		activate := r.GetAction() == pb.AlarmRequest_ACTIVATE
		if r.GetAlarm() == pb.AlarmType_NONE {
			break
		}
		// etcd stores an unknown alarm, and shows it until somebody clears a number that has no name.
		if _, known := pb.AlarmType_name[int32(r.GetAlarm())]; !known && activate {
			return nil, errUnknownAlarm
		}
		changed, err := s.alarms.SetAlarm(ctx, r.GetMemberID(), r.GetAlarm(), activate)
		if err != nil {
			return nil, Err(err)
		}
		if changed || activate {
			resp.Alarms = append(resp.Alarms, &pb.AlarmMember{MemberID: r.GetMemberID(), Alarm: r.GetAlarm()})
		}
	default:
		return nil, errUnknownAction
	}
	head, err := s.store.Head(ctx)
	if err != nil {
		return nil, Err(err)
	}
	resp.Header = s.header.At(head)
	return resp, nil
}

// Defragment returns when the store has been compacted or the caller has gone. Reads and writes go on in that time.
// etcd's answer has no header either.
func (s *maintenanceServer) Defragment(ctx context.Context, _ *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	if err := s.store.Defragment(ctx); err != nil {
		return nil, Err(err)
	}
	return &pb.DefragmentResponse{}, nil
}

// Hash hashes the keyspace at its head. etcd hashes its database file. No client can tell the difference.
func (s *maintenanceServer) Hash(ctx context.Context, _ *pb.HashRequest) (*pb.HashResponse, error) {
	hash, _, _, head, err := s.store.HashKV(ctx, 0)
	if err != nil {
		return nil, Err(err)
	}
	return &pb.HashResponse{Header: s.header.At(head), Hash: hash}, nil
}

func (s *maintenanceServer) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	hash, hashRev, compactRev, head, err := s.store.HashKV(ctx, r.GetRevision())
	if err != nil {
		return nil, Err(err)
	}
	return &pb.HashKVResponse{
		Header:          s.header.At(head),
		Hash:            hash,
		CompactRevision: compactRev,
		HashRevision:    hashRev,
	}, nil
}

// MoveLeader succeeds in etcd if the target is the leader itself. Any other target is unknown here. The answer has no
// header.
func (s *maintenanceServer) MoveLeader(_ context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if r.GetTargetID() != s.header.MemberID {
		return nil, rpctypes.ErrGRPCBadLeaderTransferee
	}
	return &pb.MoveLeaderResponse{}, nil
}

// Downgrade knows no valid target. Cancel succeeds although no downgrade is under way: etcd logs that error and answers
// as if it had succeeded.
func (s *maintenanceServer) Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	switch r.GetAction() {
	case pb.DowngradeRequest_VALIDATE, pb.DowngradeRequest_ENABLE:
		if !isVersion(r.GetVersion()) {
			return nil, rpctypes.ErrGRPCWrongDowngradeVersionFormat
		}
		return nil, rpctypes.ErrGRPCInvalidDowngradeTargetVersion
	case pb.DowngradeRequest_CANCEL:
	default:
		return nil, errUnknownAction
	}
	head, err := s.store.Head(ctx)
	if err != nil {
		return nil, Err(err)
	}
	return &pb.DowngradeResponse{Header: s.header.At(head), Version: minorOf(ClusterVersion)}, nil
}

// isVersion accepts "major.minor.patch" and "major.minor", as etcd's convertToClusterVersion does.
func isVersion(v string) bool {
	for _, v := range []string{v, v + ".0"} {
		if _, err := semver.NewVersion(v); err == nil {
			return true
		}
	}
	return false
}

// minorOf cuts the patch off: etcd writes cluster versions as "3.7" in downgrade answers.
func minorOf(v string) string {
	sv := semver.New(v)
	return fmt.Sprintf("%d.%d", sv.Major, sv.Minor)
}
