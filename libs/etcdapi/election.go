package etcdapi

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"

	cpb "github.com/headwaterdb/headwater/protos/headwater/concurrency/v1"
)

// errMissingLeaderKey has etcd's text (v3election/election.go); like there, it is sent with the code Unknown.
var errMissingLeaderKey = errors.New(`"leader" field must be provided`)

// noLease is the lease of sessions that only read. It never exists.
const noLease = -1

// RegisterElection registers v3electionpb.Election, which runs clientv3's election on client (see package loopback).
// Errors as for RegisterLock.
func RegisterElection(r grpc.ServiceRegistrar, client *clientv3.Client) {
	r.RegisterService(&electionDesc, &electionService{client: client, draining: draining(r)})
}

const electionName = "v3electionpb.Election"

var electionDesc = grpc.ServiceDesc{
	ServiceName: electionName,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		unary(electionName, "Campaign", (*electionService).campaign),
		unary(electionName, "Proclaim", (*electionService).proclaim),
		unary(electionName, "Leader", (*electionService).leader),
		unary(electionName, "Resign", (*electionService).resign),
	},
	Streams: []grpc.StreamDesc{{
		StreamName:    "Observe",
		ServerStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error {
			req := new(cpb.LeaderRequest)
			if err := stream.RecvMsg(req); err != nil {
				return err
			}
			return srv.(*electionService).observe(req, stream)
		},
	}},
}

type electionService struct {
	client   *clientv3.Client
	draining context.Context // see draining
}

// campaign waits until the caller is elected, or its context ends.
func (s *electionService) campaign(ctx context.Context, r *cpb.CampaignRequest) (*cpb.CampaignResponse, error) {
	ctx = asCaller(ctx)
	session, err := orphanedSession(ctx, s.client, r.GetLease())
	if err != nil {
		return nil, err
	}
	e := concurrency.NewElection(session, string(r.GetName()))
	if err := e.Campaign(ctx, string(r.GetValue())); err != nil {
		return nil, err
	}
	return &cpb.CampaignResponse{
		Header: concurrencyHeader(e.Header()),
		Leader: &cpb.LeaderKey{Name: r.GetName(), Key: []byte(e.Key()), Rev: e.Rev(), Lease: int64(session.Lease())},
	}, nil
}

// proclaim replaces the leader's value, if the caller still leads.
func (s *electionService) proclaim(ctx context.Context, r *cpb.ProclaimRequest) (*cpb.ProclaimResponse, error) {
	ctx = asCaller(ctx)
	e, err := s.resume(ctx, r.GetLeader())
	if err != nil {
		return nil, err
	}
	if err := e.Proclaim(ctx, string(r.GetValue())); err != nil {
		return nil, err
	}
	return &cpb.ProclaimResponse{Header: concurrencyHeader(e.Header())}, nil
}

// resign gives up the leadership. It also succeeds if the leadership is lost already.
func (s *electionService) resign(ctx context.Context, r *cpb.ResignRequest) (*cpb.ResignResponse, error) {
	ctx = asCaller(ctx)
	e, err := s.resume(ctx, r.GetLeader())
	if err != nil {
		return nil, err
	}
	if err := e.Resign(ctx); err != nil {
		return nil, err
	}
	return &cpb.ResignResponse{Header: concurrencyHeader(e.Header())}, nil
}

// resume returns the election as its leader left it.
func (s *electionService) resume(ctx context.Context, leader *cpb.LeaderKey) (*concurrency.Election, error) {
	if leader == nil {
		return nil, errMissingLeaderKey
	}
	session, err := orphanedSession(ctx, s.client, leader.GetLease())
	if err != nil {
		return nil, err
	}
	return concurrency.ResumeElection(session, string(leader.GetName()), string(leader.GetKey()), leader.GetRev()), nil
}

// leader returns the present leader. If there is none, it fails with clientv3's error.
func (s *electionService) leader(ctx context.Context, r *cpb.LeaderRequest) (*cpb.LeaderResponse, error) {
	ctx = asCaller(ctx)
	session, err := orphanedSession(ctx, s.client, noLease)
	if err != nil {
		return nil, err
	}
	resp, err := concurrency.NewElection(session, string(r.GetName())).Leader(ctx)
	if err != nil {
		return nil, err
	}
	return leaderResponse(resp), nil
}

// observe sends every leader and every proclamation until the client goes, the server drains, or the election cannot be
// watched any more.
func (s *electionService) observe(r *cpb.LeaderRequest, stream grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(asCaller(stream.Context()))
	defer cancel()
	defer context.AfterFunc(s.draining, cancel)()
	session, err := orphanedSession(ctx, s.client, noLease)
	if err != nil {
		return err
	}
	e := concurrency.NewElection(session, string(r.GetName()))
	for resp := range e.Observe(ctx) {
		if err := stream.SendMsg(leaderResponse(resp)); err != nil {
			return err
		}
	}
	if s.draining.Err() != nil {
		return rpctypes.ErrGRPCStopped
	}
	if ctx.Err() == nil { // the channel does not say why it was closed
		if _, err := e.Leader(ctx); err != nil && !errors.Is(err, concurrency.ErrElectionNoLeader) {
			return err
		}
	}
	return ctx.Err()
}

func leaderResponse(r *clientv3.GetResponse) *cpb.LeaderResponse {
	return &cpb.LeaderResponse{Header: concurrencyHeader(r.Header), Kv: concurrencyKV(r.Kvs[0])}
}

// concurrencyKV translates a key as clientv3 returns it.
func concurrencyKV(kv *mvccpb.KeyValue) *cpb.KeyValue {
	return &cpb.KeyValue{
		Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version,
		Value: kv.Value, Lease: kv.Lease,
	}
}

// ElectionService returns the description of v3electionpb.Election, for code that relays it. It must not be changed.
func ElectionService() *grpc.ServiceDesc { return &electionDesc }
