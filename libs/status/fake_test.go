package status

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// server is a made-up server with a handler in front.
type server struct {
	pb.KVClient
	pb.AuthClient

	h        *Handler
	registry *prometheus.Registry
	clock    time.Time

	mu        sync.Mutex
	keyspaces []*adminv1.Usage
	asked     int // pages of usage
	pods      []*adminv1.PodStatus
	deleting  []Deletion
	kvs       []*mvccpb.KeyValue // by key
	password  string             // "": no authentication
	checked   int                // passwords
	ranges    []*pb.RangeRequest
	fail      func(*pb.RangeRequest) error
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{registry: prometheus.NewRegistry(), clock: time.Unix(1_800_000_000, 0)}
	s.pods = []*adminv1.PodStatus{{Pod: &keyspacev1.Pod{
		Kind: "standalone", Name: "one", Ready: true, Started: timestamppb.New(s.clock),
		Numbers: &keyspacev1.PodNumbers{Hub: true, Revision: 12, HubRevision: 7, Watchers: 3, SlowWatchers: 1},
	}}}
	s.h = New(Options{
		Keyspaces: s, Deployment: s, Deletions: func(context.Context) ([]Deletion, error) { return s.deleting, nil },
		KeyspaceMetadata: "headwater-keyspace", Metrics: s.registry, Hosts: []string{"etcd.example.com"},
		Now: func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.clock },
	})
	s.h.kv, s.h.auth = s, s
	t.Cleanup(s.h.Close)
	return s
}

func (s *server) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(d)
}

// get makes a request; change, if not nil, changes it before.
func (s *server) get(path string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "127.0.0.1:2382"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	return w
}

func (s *server) Usage(_ context.Context, r *adminv1.UsageRequest) (*adminv1.UsageResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	a := &adminv1.UsageResponse{}
	i := slices.IndexFunc(s.keyspaces, func(u *adminv1.Usage) bool { return u.GetName() > r.GetAfter() })
	if i < 0 {
		return a, nil
	}
	a.Usage = s.keyspaces[i:min(i+int(r.GetLimit()), len(s.keyspaces))]
	if i+len(a.Usage) < len(s.keyspaces) {
		a.Next = a.Usage[len(a.Usage)-1].GetName()
	}
	return a, nil
}

func (s *server) Version(context.Context, *adminv1.VersionRequest) (*adminv1.VersionResponse, error) {
	return &adminv1.VersionResponse{Kind: "standalone", Name: "one", Version: "9.9"}, nil
}

func (s *server) Pods(context.Context, *adminv1.PodsRequest) (*adminv1.PodsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &adminv1.PodsResponse{Pods: s.pods}, nil
}

func (s *server) Elections(context.Context, *adminv1.ElectionsRequest) (*adminv1.ElectionsResponse, error) {
	return &adminv1.ElectionsResponse{Elections: []*adminv1.Election{{Name: "compactor"}}}, nil
}

// token is what a right password brings.
const token = "good"

func (s *server) Authenticate(_ context.Context, r *pb.AuthenticateRequest, _ ...grpc.CallOption) (
	*pb.AuthenticateResponse, error,
) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked++
	switch {
	case s.password == "":
		return nil, rpctypes.ErrGRPCAuthNotEnabled
	case r.GetPassword() != s.password:
		return nil, rpctypes.ErrGRPCAuthFailed
	}
	return &pb.AuthenticateResponse{Token: token}, nil
}

// Range answers for the keyspace "a", of one version of each key.
func (s *server) Range(ctx context.Context, r *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ranges = append(s.ranges, r)
	md, _ := metadata.FromOutgoingContext(ctx)
	if got := md.Get("headwater-keyspace"); len(got) != 1 || got[0] != "a" {
		return nil, rpctypes.ErrGRPCNoSpace // a code that no test below wants
	}
	if tokens := md.Get("token"); s.password != "" {
		switch {
		case len(tokens) == 0:
			return nil, rpctypes.ErrGRPCUserEmpty
		case tokens[0] == "other":
			return nil, rpctypes.ErrGRPCPermissionDenied
		case tokens[0] != token:
			return nil, rpctypes.ErrGRPCInvalidAuthToken
		}
	}
	if s.fail != nil {
		if err := s.fail(r); err != nil {
			return nil, err
		}
	}
	a := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 100}}
	for _, kv := range s.kvs {
		key, end := string(kv.Key), string(r.GetRangeEnd())
		switch {
		case end == "" && key != string(r.GetKey()), key < string(r.GetKey()), end != "" && end != "\x00" && key >= end:
			continue
		case r.GetRevision() != 0 && kv.ModRevision > r.GetRevision():
			continue
		}
		if a.Count++; r.GetLimit() == 0 || int64(len(a.Kvs)) < r.GetLimit() {
			a.Kvs = append(a.Kvs, kv)
		} else {
			a.More = true
		}
	}
	return a, nil
}

// put adds a key, or a version of it.
func (s *server) put(key, value string, mod, version int64) {
	s.kvs = append(s.kvs, &mvccpb.KeyValue{
		Key: []byte(key), Value: []byte(value), ModRevision: mod, CreateRevision: mod - version + 1, Version: version,
	})
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s does not have %q:\n%s", what, p, text)
		}
	}
}

func numbered(n int) (all []*adminv1.Usage) {
	for i := range n {
		all = append(all, &adminv1.Usage{Name: fmt.Sprintf("ks-%05d", i), Id: uint64(i + 1), Bytes: int64(i)})
	}
	return all
}
