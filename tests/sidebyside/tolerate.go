package sidebyside

import (
	"bytes"
	"slices"
	"sort"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// This file is the complete list of tolerated differences between etcd and the server under test.
//
//	T1  Header ids and the raft term: any non-zero value, the same in all answers of one server
//	    (Target.checkHeader).
//	T2  Lease ids picked by the server: compared as "the k-th of the sequence" (rewrite, nameLeases).
//	T3  Remaining TTL: any value from granted-ttlSlack to granted.
//	T4  Order of LeaseTimeToLive.keys and LeaseLeases.leases: etcd leaves it open (a map, and a heap of times).
//	T5  Order among equal sort values of a sorted Range: etcd's sort is not stable. If a limit cuts inside equal
//	    values, which of these are returned is open too, so of the cut group only its size is compared.
//	T6  Status: sizes and raft indexes (any; leader is non-zero and the answering member). dbSizeQuota is a size.
//	    storageVersion: etcd raises it some seconds after its start.
//	T7  Hash values (not the revisions that come with them), of Hash and HashKV. HashKV of exactly the compact
//	    revision is answered by etcd from a cache that was filled when the compaction ran and still names the
//	    compact revision before it; after Compact(0) on a fresh store it answers the newest revision from there,
//	    with hash_revision 0, for good. Revisions of the last ten compactions are answered from the cache even
//	    when they have been compacted since.
//	T8  MemberList: ids, peer URLs and client URLs by value; there must be one member with an id, a name, a client
//	    and a peer URL.
//	T9  RangeStream: where messages are cut. Only the last may carry header, more, count (call.go checks it).
//	T10 Watch: how events are grouped into responses and fragments, and header revisions of responses with events,
//	    as far as I8 allows: revisions whole, in order, header not behind the events (stream.go). etcd's catch-up
//	    responses carry the store's revision, ahead of what the watcher has got; the server under test must not do
//	    that (Pair.compareStream).
//	T11 prev_kv of an event may be missing in etcd when the previous revision is compacted by the time of
//	    delivery.
//	T12 prev_kv that was not asked for is ignored in etcd's events: 3.7.3 shares events between watchers and fills
//	    it in for all of them.
//	T13 When a progress request is answered: etcd may need to be asked again while a watcher is catching up
//	    (stream.askProgress).
//	T14 Methods that Headwater does not have may answer Unimplemented (notYet).
//	T15 Two errors that etcd sends with code Unknown by mistake may come with their nominal code (nominalCode).
//	T16 A watch canceled by compaction stays registered in etcd until the client cancels it: that cancel is
//	    answered once more, its id is taken, and progress requests of the stream stay unanswered. The server under
//	    test may forget it.
//	T17 A transaction that deletes [key, "\0") and puts a key in that range, or puts a key in one nested
//	    transaction and deletes it in a later one beside it: etcd's overlap check does not see these, and the key
//	    changes twice in one revision. Headwater refuses them. As the stores would differ from then on, the
//	    generator makes no such transaction (avoidUnseenOverlaps).
//	T18 RangeStream with order NONE and a target other than KEY: etcd sorts each message by itself and takes the
//	    last key of the sorted message for where to go on, so that keys come more than once where there are more
//	    than ten. Headwater sorts all. The generator does not ask for it; a case with fewer keys does.
//	T19 What is wrong with a request that cannot be decoded: the code (Internal) is compared, and that gRPC's text
//	    says so.
//
// Where the server's revisions have gaps (Target.ranked: the distributed form), they are compared by rank
// (tests/internal/ranks), and also
//
//	T20 A watch that starts two or more writes in the future is sent to both servers as one that starts with the
//	    next write: the revisions of later writes do not follow from those that are known (Pair.requests).
//	    Far-future constants stay.
//	T21 A pod that did not take the alarm request itself obeys the alarm within a second. The harness waits until
//	    all pods obey (alarm.go), and compares everything from then on. Without a wait it compares that the alarm
//	    is listed and can be cleared at once.
//	T22 After a kill of all pods the harness waits until each pod has found the others, and each shard of leases a
//	    new owner (pods.go).
//	T23 The header of a keep-alive has a revision that the lease's keeper knew within the last second; another pod
//	    relays it.
//	T24 With users and roles, one server may allow an empty range and the other not. With etcd the form of its
//	    tree of permissions decides, with us the first key. The generator makes no such range.
//	T25 With users and roles, our watch ends when its client may no longer watch; etcd lets it go on. Watches are
//	    compared only at their creation.
//	T26 A pod answers keep-alives from memory, with users and roles that may be some seconds old.
//
// The concurrent mode compares less, by its nature; see concurrent.go.

// errCompacted is the error of a read below the compact revision.
const errCompacted = "OutOfRange: etcdserver: mvcc: required revision has been compacted"

// errUndecodable is the beginning of gRPC's error for a request that cannot be decoded.
const errUndecodable = "Internal: grpc: failed to unmarshal the received message: "

// ttlSlack is how much of a lease's TTL, in seconds, may pass within a sequence.
const ttlSlack = 60

// notYet are the kinds of T14.
var notYet = map[string]bool{
	"MemberAdd": true, // there is one member; bad requests have etcd's errors
}

// nominalCode maps etcd's error to the same one with the code of its table entry (T15).
var nominalCode = map[string]string{
	"Unknown: etcdserver: re-configuration failed due to not enough started members": "FailedPrecondition: etcdserver: re-configuration failed due to not enough started members",
	"Unknown: etcdserver: too many requests":                                         "ResourceExhausted: etcdserver: too many requests",
}

// toleratedOutcome reports whether an error and another outcome count as equal. compacted is the highest compacted
// revision.
func toleratedOutcome(kind string, req proto.Message, ref, sut outcome, compacted int64) bool {
	if notYet[kind] && strings.HasPrefix(sut.err, "Unimplemented: ") {
		return true
	}
	if strings.HasPrefix(ref.err, errUndecodable) && strings.HasPrefix(sut.err, errUndecodable) {
		return true
	}
	if r, ok := req.(*pb.HashKVRequest); ok && ref.err == "" && sut.err == errCompacted {
		return r.GetRevision() > 0 && r.GetRevision() < compacted
	}
	nominal, ok := nominalCode[ref.err]
	return ok && nominal == sut.err
}

// normalise erases from a response, in place, the fields that may differ.
func normalise(req, res proto.Message) {
	eraseIDs(res)
	switch r := res.(type) {
	case *pb.RangeResponse:
		eraseTies(req.(*pb.RangeRequest), r)
	case *pb.TxnResponse:
		eraseTiesOfTxn(req.(*pb.TxnRequest), r)
	case *pb.LeaseTimeToLiveResponse:
		if r.GetTTL() <= r.GetGrantedTTL() && r.GetTTL() >= r.GetGrantedTTL()-ttlSlack && r.GetGrantedTTL() > 0 {
			r.TTL = r.GetGrantedTTL()
		}
		slices.SortFunc(r.Keys, bytes.Compare)
	case *pb.LeaseLeasesResponse:
		sort.Slice(r.Leases, func(i, j int) bool { return r.Leases[i].GetID() < r.Leases[j].GetID() })
	case *pb.StatusResponse:
		if r.GetLeader() != 0 {
			r.Leader = 1
		}
		r.DbSize, r.DbSizeInUse, r.DbSizeQuota = 0, 0, 0
		r.RaftIndex, r.RaftTerm, r.RaftAppliedIndex = 0, 0, 0
		r.StorageVersion = ""
	case *pb.HashResponse:
		r.Hash = 0
	case *pb.HashKVResponse:
		r.Hash = 0
	case *pb.MemberListResponse:
		for _, m := range r.GetMembers() {
			eraseMember(m)
		}
	}
}

// normalisePair erases fields that may differ depending on the other answer.
func normalisePair(ref, sut proto.Message) {
	a, ok := ref.(*pb.HashKVResponse)
	if !ok {
		return
	}
	b, ok := sut.(*pb.HashKVResponse)
	if ok && a.GetHashRevision() == 0 { // the cached answer for Compact(0)
		a.HashRevision, a.CompactRevision = b.GetHashRevision(), b.GetCompactRevision()
	}
	if ok && b.GetHashRevision() == b.GetCompactRevision() && a.GetCompactRevision() <= b.GetCompactRevision() {
		a.CompactRevision = b.GetCompactRevision()
	}
}

// eraseIDs sets every non-zero id of every header in the message to 1 (T1).
func eraseIDs(m proto.Message) {
	walk(m.ProtoReflect(), func(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
		if m.Descriptor().Name() == "ResponseHeader" && fd.Kind() == protoreflect.Uint64Kind {
			m.Set(fd, protoreflect.ValueOfUint64(1))
		}
	})
}

func eraseMember(m *pb.Member) {
	if m.GetID() != 0 {
		m.ID = 1
	}
	if m.GetName() != "" {
		m.Name = "named"
	}
	if len(m.GetClientURLs()) > 0 {
		m.ClientURLs = []string{"given"}
	}
	if len(m.GetPeerURLs()) > 0 {
		m.PeerURLs = []string{"given"}
	}
}

// eraseTies puts groups of equal sort values into key order, and reduces a group cut by the limit to its size (T5).
func eraseTies(req *pb.RangeRequest, res *pb.RangeResponse) {
	if req.GetSortTarget() == pb.RangeRequest_KEY {
		return
	}
	kvs := res.GetKvs()
	for i := 0; i < len(kvs); {
		j := i + 1
		for j < len(kvs) && equalTarget(req.GetSortTarget(), kvs[i], kvs[j]) {
			j++
		}
		slices.SortFunc(kvs[i:j], func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.GetKey(), b.GetKey()) })
		if j == len(kvs) && res.GetMore() && j-i > 0 {
			for k := i; k < j; k++ {
				kvs[k] = &mvccpb.KeyValue{}
			}
		}
		i = j
	}
}

func equalTarget(target pb.RangeRequest_SortTarget, a, b *mvccpb.KeyValue) bool {
	switch target {
	case pb.RangeRequest_VERSION:
		return a.GetVersion() == b.GetVersion()
	case pb.RangeRequest_CREATE:
		return a.GetCreateRevision() == b.GetCreateRevision()
	case pb.RangeRequest_MOD:
		return a.GetModRevision() == b.GetModRevision()
	case pb.RangeRequest_VALUE:
		return bytes.Equal(a.GetValue(), b.GetValue())
	default:
		return false
	}
}

// eraseTiesOfTxn applies eraseTies to the ranges of the branch that was taken.
func eraseTiesOfTxn(req *pb.TxnRequest, res *pb.TxnResponse) {
	ops := req.GetFailure()
	if res.GetSucceeded() {
		ops = req.GetSuccess()
	}
	for i, r := range res.GetResponses() {
		if i >= len(ops) {
			return
		}
		switch {
		case ops[i].GetRequestRange() != nil && r.GetResponseRange() != nil:
			eraseTies(ops[i].GetRequestRange(), r.GetResponseRange())
		case ops[i].GetRequestTxn() != nil && r.GetResponseTxn() != nil:
			eraseTiesOfTxn(ops[i].GetRequestTxn(), r.GetResponseTxn())
		}
	}
}

// sameEvent compares an event of etcd with ours. compacted is the highest revision that was ever compacted.
func sameEvent(req *pb.WatchCreateRequest, ref, sut *mvccpb.Event, compacted int64) bool {
	if proto.Equal(ref, sut) {
		return true
	}
	e := proto.Clone(ref).(*mvccpb.Event)
	if !req.GetPrevKv() { // T12
		e.PrevKv = nil
	} else if e.PrevKv == nil && e.GetKv().GetModRevision()-1 < compacted { // T11
		e.PrevKv = sut.GetPrevKv()
	}
	return proto.Equal(e, sut)
}
