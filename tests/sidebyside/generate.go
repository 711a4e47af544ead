package sidebyside

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// The key pool is small, so that operations hit the same keys. It is below the size from which etcd's sort is unstable
// (T5).
var keyPool = []string{"a", "b", "c", "k/", "k/1", "k/2", "k/2/x", "\x00", "a\x00", "\xff", "\xff\xff"}

// valuePool has values of every kind that matters.
// The last two are stored apart from their keys.
var valuePool = []string{
	"", "v", "w", "10", "9", "\x00\xfe\xff", "a longer value that is still short", strings.Repeat("large", 150),
	strings.Repeat("larger still", 1000),
}

const (
	streamsMax   = 3
	opsMin       = 5
	opsMax       = 45
	farRevision  = math.MaxInt64 - 2 // where watches of grpc-proxy start
	ttlMin       = 300               // no lease expires within a sequence
	knownLeases  = 5                 // client-picked lease ids 1…knownLeases and negative ones
	fragmentPart = 700 << 10
	wideKeysMin  = 25
	restartOneIn = 1000
)

// Generator makes one random sequence. The same seed gives the same sequence against the same answers.
type Generator struct {
	*rand.Rand
	left  int
	queue []Op // operations that come next
}

// NewGenerator returns the generator of sequence number n of a seed.
func NewGenerator(seed, n uint64) *Generator {
	g := &Generator{Rand: rand.New(rand.NewPCG(seed, n))}
	g.left = opsMin + g.IntN(opsMax-opsMin)
	if g.oneIn(4) { // some sequences begin with a history
		for range g.IntN(12) {
			g.queue = append(g.queue, g.write())
		}
	}
	if g.oneIn(10) {
		g.queue = append(g.queue, g.wideTxn())
	}
	return g
}

// wideTxn puts more keys than fit into one message of RangeStream, and more than etcd sorts in a stable way.
func (g *Generator) wideTxn() Op {
	t := &pb.TxnRequest{}
	for i := range wideKeysMin + g.IntN(wideKeysMin) {
		t.Success = append(t.Success, putOp(&pb.PutRequest{Key: fmt.Appendf(nil, "k/w%02d", i), Value: g.value()}))
	}
	return Op{Kind: "Txn", Req: t}
}

// Next returns the next operation, or false at the end.
func (g *Generator) Next(s State) (Op, bool) {
	if len(g.queue) > 0 {
		op := g.queue[0]
		g.queue = g.queue[1:]
		return op, true
	}
	if g.left == 0 {
		return Op{}, false
	}
	g.left--
	return g.operation(s), true
}

func (g *Generator) operation(s State) Op {
	if g.oneIn(restartOneIn) {
		return Op{Kind: kindRestart}
	}
	switch n := g.IntN(100); {
	case n < 20:
		return Op{Kind: "Put", Req: g.put(s)}
	case n < 38:
		return Op{Kind: "Range", Req: g.rangeRequest(s)}
	case n < 42:
		return Op{Kind: "RangeStream", Req: g.streamRequest(s)}
	case n < 49:
		return Op{Kind: "DeleteRange", Req: g.deleteRange()}
	case n < 67:
		return Op{Kind: "Txn", Req: g.txn(s, 0)}
	case n < 70:
		return Op{Kind: "Compact", Req: &pb.CompactionRequest{Revision: g.revision(s), Physical: g.oneIn(2)}}
	case n < 81:
		return g.lease(s)
	case n < 94:
		return g.watchOp(s)
	case n < 96:
		return Op{Kind: kindSync}
	case n < 98:
		return g.rawOp(s)
	default:
		return g.other(s)
	}
}

// write returns an operation that changes something, most of the time.
func (g *Generator) write() Op {
	if g.oneIn(5) {
		return Op{Kind: "DeleteRange", Req: g.deleteRange()}
	}
	return Op{Kind: "Put", Req: &pb.PutRequest{Key: g.key(), Value: g.value()}}
}

func (g *Generator) oneIn(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *Generator, list ...T) T { return list[g.IntN(len(list))] }

func (g *Generator) key() []byte { return []byte(pick(g, keyPool...)) }

// keyOrEmpty returns no key once in a while.
func (g *Generator) keyOrEmpty() []byte {
	if g.oneIn(40) {
		return nil
	}
	return g.key()
}

func (g *Generator) value() []byte {
	if g.oneIn(60) {
		return fmt.Appendf(nil, "%s%d", fillPrefix, g.IntN(300<<10))
	}
	return []byte(pick(g, valuePool...))
}

// interval returns a key and range end of every shape.
func (g *Generator) interval() (key, end []byte) {
	key = g.keyOrEmpty()
	switch g.IntN(12) {
	case 0, 1, 2, 3:
		return key, nil
	case 4, 5:
		return key, []byte{0}
	case 6:
		return []byte{0}, []byte{0}
	case 7, 8:
		key = []byte(pick(g, "k", "k/", "a", "\xff", "k/2"))
		return key, prefixEnd(key)
	case 9:
		return key, key
	default:
		return key, g.key() // may be before key
	}
}

// prefixEnd is the range end by which clients ask for a prefix.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

// revision returns a revision of any class: none, negative, compacted, past, present, future.
func (g *Generator) revision(s State) int64 {
	switch g.IntN(10) {
	case 0:
		return 0
	case 1:
		return -g.Int64N(3)
	case 2:
		return s.Head + g.Int64N(3)
	case 3:
		return s.Head
	case 4:
		return s.Compacted + g.Int64N(3) - 1
	default:
		return 1 + g.Int64N(s.Head)
	}
}

func (g *Generator) rangeRequest(s State) *pb.RangeRequest {
	r := &pb.RangeRequest{}
	r.Key, r.RangeEnd = g.interval()
	if g.oneIn(3) {
		r.Revision = g.revision(s)
	}
	if g.oneIn(3) {
		r.Limit = g.Int64N(5) - 1
	}
	if g.oneIn(15) {
		r.Limit = g.Int64N(2 * wideKeysMin)
	}
	if g.oneIn(3) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.IntN(5))
	}
	if g.oneIn(40) {
		r.SortOrder = pb.RangeRequest_SortOrder(3 + g.IntN(2))
	}
	if g.oneIn(40) {
		r.SortTarget = pb.RangeRequest_SortTarget(pick(g, 5, 9, -1))
	}
	r.Serializable, r.KeysOnly, r.CountOnly = g.oneIn(4), g.oneIn(5), g.oneIn(7)
	if g.oneIn(5) {
		for _, bound := range []*int64{
			&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision,
		} {
			if g.oneIn(3) {
				*bound = g.revision(s)
			}
		}
	}
	return r
}

// streamRequest returns a range request, mostly without options that RangeStream refuses.
func (g *Generator) streamRequest(s State) *pb.RangeRequest {
	r := g.rangeRequest(s)
	if !g.oneIn(5) {
		r.SortOrder, r.SortTarget = pb.RangeRequest_NONE, pb.RangeRequest_KEY
		r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
	}
	if r.SortOrder == pb.RangeRequest_NONE { // T18
		r.SortTarget = pb.RangeRequest_KEY
	}
	return r
}

func (g *Generator) put(s State) *pb.PutRequest {
	r := &pb.PutRequest{Key: g.keyOrEmpty(), Value: g.value(), PrevKv: g.oneIn(3)}
	if g.oneIn(4) {
		r.Lease = g.leaseID(s)
	}
	if g.oneIn(8) {
		r.IgnoreValue = true
		if !g.oneIn(5) {
			r.Value = nil
		}
	}
	if g.oneIn(8) {
		r.IgnoreLease = true
		if !g.oneIn(5) {
			r.Lease = 0
		}
	}
	return r
}

func (g *Generator) deleteRange() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: g.oneIn(3)}
	r.Key, r.RangeEnd = g.interval()
	return r
}

// leaseID returns a lease that may exist.
func (g *Generator) leaseID(s State) int64 {
	if s.Leases > 0 && g.oneIn(2) {
		return autoLease + g.Int64N(int64(s.Leases))
	}
	if g.oneIn(8) {
		return -g.Int64N(3)
	}
	return 1 + g.Int64N(knownLeases)
}

func (g *Generator) lease(s State) Op {
	switch g.IntN(10) {
	case 0, 1, 2, 3:
		r := &pb.LeaseGrantRequest{TTL: ttlMin + g.Int64N(1000)}
		if !g.oneIn(3) {
			r.ID = g.leaseID(State{}) // a server-picked id cannot be known to be free or taken
		}
		switch g.IntN(20) {
		case 0:
			r.TTL = pick(g, int64(9_000_000_001), math.MaxInt64)
		case 1:
			r.TTL = 9_000_000_000
		case 2: // the server would raise it to the minimum, and the lease would expire soon
			r.TTL, r.ID = -g.Int64N(2), 77
			g.queue = append(g.queue, Op{Kind: "LeaseRevoke", Req: &pb.LeaseRevokeRequest{ID: 77}})
		}
		return Op{Kind: "LeaseGrant", Req: r}
	case 4, 5:
		return Op{Kind: "LeaseRevoke", Req: &pb.LeaseRevokeRequest{ID: g.leaseID(s)}}
	case 6:
		return Op{Kind: "LeaseKeepAlive", Req: &pb.LeaseKeepAliveRequest{ID: g.leaseID(s)}}
	case 7, 8:
		return Op{Kind: "LeaseTimeToLive", Req: &pb.LeaseTimeToLiveRequest{ID: g.leaseID(s), Keys: g.oneIn(2)}}
	default:
		return Op{Kind: "LeaseLeases", Req: &pb.LeaseLeasesRequest{}}
	}
}

func (g *Generator) watchOp(s State) Op {
	op := Op{Kind: kindWatch, Stream: g.IntN(streamsMax)}
	ids := s.Streams[op.Stream]
	switch n := g.IntN(20); {
	case n < 13:
		op.Req = &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: g.watchCreate(s, ids)}}
	case n < 16:
		id := g.Int64N(6) - 1
		if len(ids) > 0 {
			id = pick(g, ids...)
		}
		op.Req = &pb.WatchRequest{
			RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}},
		}
	case n < 18:
		op.Req = &pb.WatchRequest{
			RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}},
		}
	case n < 19:
		op.Req = &pb.WatchRequest{}
	default:
		op.Kind = kindWatchClose
	}
	return op
}

func (g *Generator) watchCreate(s State, ids []int64) *pb.WatchCreateRequest {
	r := &pb.WatchCreateRequest{}
	r.Key, r.RangeEnd = g.interval()
	switch g.IntN(8) {
	case 0, 1, 2: // from now on
	case 3:
		r.StartRevision = g.revision(s)
	case 4:
		r.StartRevision = pick(g, s.Head+1, s.Head+2, farRevision)
	default:
		r.StartRevision = 1 + g.Int64N(s.Head)
	}
	if g.oneIn(4) {
		r.WatchId = g.Int64N(6) - 3
		if r.WatchId == -1 { // etcd uses it for "no watch"
			r.WatchId = 9
		}
	}
	if len(ids) > 0 && g.oneIn(10) {
		r.WatchId = pick(g, ids...)
	}
	if g.oneIn(4) {
		r.Filters = append(r.Filters, pick(g, pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE))
		if g.oneIn(4) {
			r.Filters = append(r.Filters, pick(g, pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE))
		}
	}
	r.PrevKv, r.Fragment, r.ProgressNotify = g.oneIn(2), g.oneIn(6), g.oneIn(6)
	if r.Fragment && g.oneIn(4) {
		g.queue = append(g.queue, g.bigTxn())
	}
	return r
}

// bigTxn makes events of one revision that do not fit into one fragment. Its puts together fit into a request.
func (g *Generator) bigTxn() Op {
	t := &pb.TxnRequest{}
	for _, key := range []string{"k/1", "k/2"} {
		t.Success = append(t.Success,
			putOp(&pb.PutRequest{Key: []byte(key), Value: fmt.Appendf(nil, "%s%d", fillPrefix, fragmentPart)}))
	}
	return Op{Kind: "Txn", Req: t}
}

// other returns an operation that is about neither keys, leases nor watches.
func (g *Generator) other(s State) Op {
	return pick(
		g,
		Op{Kind: "Status", Req: &pb.StatusRequest{}},
		Op{Kind: "Alarm", Req: &pb.AlarmRequest{}},
		Op{Kind: "Alarm", Req: &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE}},
		Op{Kind: "Defragment", Req: &pb.DefragmentRequest{}},
		Op{Kind: "Hash", Req: &pb.HashRequest{}},
		Op{Kind: "HashKV", Req: &pb.HashKVRequest{Revision: g.revision(s)}},
		Op{Kind: "HashKV", Req: &pb.HashKVRequest{}},
		Op{Kind: "MoveLeader", Req: &pb.MoveLeaderRequest{TargetID: 12345}},
		Op{
			Kind: "Downgrade",
			Req: &pb.DowngradeRequest{
				Action:  pb.DowngradeRequest_DowngradeAction(g.IntN(3)),
				Version: pick(g, "", "3.4.0", "3.5.0", "x", "9.9.9"),
			},
		},
		Op{Kind: "MemberList", Req: &pb.MemberListRequest{Linearizable: g.oneIn(2)}},
		Op{Kind: "MemberRemove", Req: &pb.MemberRemoveRequest{ID: 1}},
		Op{Kind: "MemberPromote", Req: &pb.MemberPromoteRequest{ID: 1}},
		Op{Kind: "MemberUpdate", Req: &pb.MemberUpdateRequest{ID: 1, PeerURLs: []string{"http://127.0.0.1:1"}}},
		Op{Kind: "Authenticate", Req: &pb.AuthenticateRequest{Name: "root", Password: "x"}},
		Op{Kind: "AuthStatus", Req: &pb.AuthStatusRequest{}},
		g.largeRequest(),
	)
}

// largeRequest returns a request whose size is near the limits of 1.5 MiB for a request and 2 MiB for a message. It
// avoids the limit itself, because etcd wraps requests in some ten bytes, which vary.
func (g *Generator) largeRequest() Op {
	n := pick(g, 1536<<10-200, 1536<<10, 1536<<10+1000, 2<<20, 3<<20)
	value := fmt.Appendf(nil, "%s%d", fillPrefix, n)
	var req proto.Message = &pb.PutRequest{Key: g.key(), Value: value}
	if g.oneIn(2) {
		req = &pb.TxnRequest{Success: []*pb.RequestOp{putOp(req.(*pb.PutRequest))}}
		return Op{Kind: "Txn", Req: req}
	}
	return Op{Kind: "Put", Req: req}
}
