package sidebyside

import (
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// falsePatience is how long an answer waits for a revision that does not exist. Most mutations make up such a revision.
// It is long enough for revisions that exist.
const falsePatience = 2 * time.Second

// revisionMutations are those of mutations that falsify revisions. The others do not depend on ranks.
var revisionMutations = []string{
	"read revision", "header inside a transaction", "created revision", "event header ahead", "event header behind",
	"progress revision", "compact_revision",
	"event dropped", "event twice",
}

// requestMutations change revisions by one on the way to the server, as a translation that is off by one would.
var requestMutations = []mutation{
	{
		name:    "read at the revision before",
		ops:     then("Range key:'a' revision:3"),
		request: on(func(r *pb.RangeRequest) bool { r.Revision--; return true }),
	},
	{
		name:    "read at the revision after",
		ops:     then("Put key:'b'", "Range key:'a' range_end:'z' revision:3"),
		request: on(func(r *pb.RangeRequest) bool { r.Revision++; return true }),
	},
	{
		name:    "read in the future",
		ops:     then("Range key:'a' revision:3"),
		request: on(func(r *pb.RangeRequest) bool { r.Revision++; return true }),
	},
	{
		name:    "bound",
		ops:     then("Range key:'a' min_mod_revision:3"),
		request: on(func(r *pb.RangeRequest) bool { r.MinModRevision++; return true }),
	},
	{
		name:    "other bound",
		ops:     then("Range key:'a' max_create_revision:2"),
		request: on(func(r *pb.RangeRequest) bool { r.MaxCreateRevision--; return true }),
	},
	{
		name: "compare", ops: then("Txn compare:{target:MOD key:'a' mod_revision:3}"),
		request: on(func(r *pb.TxnRequest) bool {
			r.Compare[0].TargetUnion = &pb.Compare_ModRevision{ModRevision: r.Compare[0].GetModRevision() + 1}
			return true
		}),
	},
	{
		name: "compare nested",
		ops:  then("Txn success:{request_txn:{compare:{target:CREATE result:LESS key:'a' create_revision:3}}}"),
		request: on(func(r *pb.TxnRequest) bool {
			r.Success[0].GetRequestTxn().Compare[0].TargetUnion = &pb.Compare_CreateRevision{CreateRevision: 1}
			return true
		}),
	},
	{
		name: "start of a watch too late", ops: then("Watch#0 create_request:{key:'a' start_revision:3}", "Sync"),
		request: on(func(r *pb.WatchRequest) bool {
			return start(r, 1)
		}),
	},
	{
		name: "start of a watch too early", ops: then("Watch#0 create_request:{key:'a' start_revision:3}", "Sync"),
		request: on(func(r *pb.WatchRequest) bool {
			return start(r, -1)
		}),
	},
	{
		name: "start at the end", ops: then("Watch#0 create_request:{key:'a' start_revision:4}", "Put key:'a'", "Sync"),
		request: on(func(r *pb.WatchRequest) bool {
			return start(r, -1)
		}),
	},
	{
		name:    "revision of a hash",
		ops:     then("HashKV revision:3"),
		request: on(func(r *pb.HashKVRequest) bool { r.Revision--; return true }),
	},
	// This is the last one, because the compact revisions differ afterwards.
	{
		name:    "compaction",
		ops:     then("Compact revision:3", "Range key:'a' revision:2"),
		request: on(func(r *pb.CompactionRequest) bool { r.Revision--; return true }),
	},
	{
		name:    "compaction in the future",
		ops:     then("Compact revision:3"),
		request: on(func(r *pb.CompactionRequest) bool { r.Revision++; return true }),
	},
}

// start moves the start of the watches of a sequence; the tap has no key.
func start(r *pb.WatchRequest, by int64) bool {
	c := r.GetCreateRequest()
	if string(c.GetKey()) != "a" {
		return false
	}
	c.StartRevision += by
	return true
}

// TestPodsMutations: the harness notices mutations through the translation of revisions too. The errors are in the
// ranks that the harness sees (as from a wrong translation), or in the revisions that the server sends (as from a wrong
// server).
func TestPodsMutations(t *testing.T) {
	distributed(t)
	selected := slices.DeleteFunc(slices.Clone(mutations), func(m mutation) bool {
		return !slices.Contains(revisionMutations, m.name)
	})
	t.Run("ranks", func(t *testing.T) {
		t.Parallel()
		s := falsePods(t)
		seeAll(t, requestMutations, func(dial []grpc.DialOption) (*Target, error) { return s.target(dial, nil) })
	})
	t.Run("revisions", func(t *testing.T) {
		t.Parallel()
		s := falsePods(t)
		seeAll(t, selected, func(dial []grpc.DialOption) (*Target, error) { return s.target(nil, dial) })
	})
}

// falsePods starts pods, which are closed with the test.
func falsePods(t *testing.T) *podsServer {
	t.Helper()
	o, err := ownStore(t)
	if err != nil {
		t.Fatal(err)
	}
	o.Patience = falsePatience
	s, err := newPodsServer(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	return s
}
