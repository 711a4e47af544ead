package sidebyside

import (
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

const (
	txnDepthMax    = 3
	txnOpsLimit    = 128 // etcd's default MaxTxnOps
	txnBranchUsual = 4
)

func putOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func rangeOp(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func deleteOp(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func txnOp(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

// txn returns a transaction of any shape, most often a valid one.
func (g *Generator) txn(s State, depth int) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for range g.IntN(3) {
		t.Compare = append(t.Compare, g.compare(s))
	}
	free := map[string]bool{}
	for _, k := range keyPool {
		free[k] = true
	}
	careful := !g.oneIn(6) // a careful branch does not touch a key twice
	t.Success = g.branch(s, depth, free, careful)
	free = map[string]bool{}
	for _, k := range keyPool {
		free[k] = true
	}
	t.Failure = g.branch(s, depth, free, careful)
	if depth == 0 && g.oneIn(60) {
		g.fillUp(t)
	}
	if depth == 0 {
		avoidUnseenOverlaps(t)
	}
	return t
}

// avoidUnseenOverlaps changes transactions that Headwater refuses and etcd does not (T17).
func avoidUnseenOverlaps(t *pb.TxnRequest) {
	if hasPut(t) {
		closeDeletes(t)
	}
	for _, branch := range [][]*pb.RequestOp{t.GetSuccess(), t.GetFailure()} {
		earlier := map[string]bool{}
		for _, op := range branch {
			if n := op.GetRequestTxn(); n != nil {
				avoidUnseenOverlaps(n)
				keepKeys(n, earlier)
				collectPuts(n, earlier)
			}
		}
	}
}

// hasUnseenOverlap reports whether avoidUnseenOverlaps would change t.
func hasUnseenOverlap(t *pb.TxnRequest) bool {
	c := proto.Clone(t).(*pb.TxnRequest)
	avoidUnseenOverlaps(c)
	return !proto.Equal(c, t)
}

// keepKeys turns deletes of any of the keys into reads.
func keepKeys(t *pb.TxnRequest, keys map[string]bool) {
	for _, op := range slices.Concat(t.GetSuccess(), t.GetFailure()) {
		if n := op.GetRequestTxn(); n != nil {
			keepKeys(n, keys)
		}
		d := op.GetRequestDeleteRange()
		if d == nil {
			continue
		}
		w := &watch{req: &pb.WatchCreateRequest{Key: d.GetKey(), RangeEnd: d.GetRangeEnd()}}
		for key := range keys {
			if w.matches(&mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(key)}}) {
				op.Request = &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: d.GetKey()}}
				break
			}
		}
	}
}

func collectPuts(t *pb.TxnRequest, keys map[string]bool) {
	for _, op := range slices.Concat(t.GetSuccess(), t.GetFailure()) {
		if p := op.GetRequestPut(); p != nil {
			keys[string(p.GetKey())] = true
		}
		if n := op.GetRequestTxn(); n != nil {
			collectPuts(n, keys)
		}
	}
}

func hasPut(t *pb.TxnRequest) bool {
	for _, op := range slices.Concat(t.GetSuccess(), t.GetFailure()) {
		if op.GetRequestPut() != nil || hasPut(op.GetRequestTxn()) {
			return true
		}
	}
	return false
}

// closeDeletes gives deletes without an upper bound an end behind all keys of the pool (T17).
func closeDeletes(t *pb.TxnRequest) {
	for _, op := range slices.Concat(t.GetSuccess(), t.GetFailure()) {
		if d := op.GetRequestDeleteRange(); d != nil && string(d.GetRangeEnd()) == "\x00" {
			d.RangeEnd = []byte("\xff\xff\xff")
		}
		if n := op.GetRequestTxn(); n != nil {
			closeDeletes(n)
		}
	}
}

// fillUp adds operations to a transaction up to or beyond the limit.
func (g *Generator) fillUp(t *pb.TxnRequest) {
	n := txnOpsLimit + g.IntN(2)
	switch g.IntN(3) {
	case 0:
		for len(t.Compare) < n {
			t.Compare = append(t.Compare, &pb.Compare{
				Key: []byte("a"), Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: -1},
			})
		}
	case 1:
		for len(t.Success) < n {
			t.Success = append(t.Success, rangeOp(&pb.RangeRequest{Key: g.key()}))
		}
	default:
		for len(t.Failure) < n {
			t.Failure = append(t.Failure, rangeOp(&pb.RangeRequest{Key: g.key()}))
		}
	}
}

func (g *Generator) branch(s State, depth int, free map[string]bool, careful bool) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for range g.IntN(txnBranchUsual + 1) {
		if op := g.txnStep(s, depth, free, careful); op != nil {
			ops = append(ops, op)
		}
	}
	return ops
}

func (g *Generator) txnStep(s State, depth int, free map[string]bool, careful bool) *pb.RequestOp {
	switch g.IntN(12) {
	case 0, 1, 2, 3:
		r := g.rangeRequest(s)
		if careful && r.Revision != 0 && g.oneIn(2) {
			r.Revision = 0
		}
		return rangeOp(r)
	case 4, 5, 6, 7:
		r := g.put(s)
		if careful {
			if !free[string(r.Key)] {
				return nil
			}
			delete(free, string(r.Key))
			r.IgnoreLease, r.IgnoreValue = false, false
		}
		return putOp(r)
	case 8, 9:
		r := g.deleteRange()
		if careful {
			if !free[string(r.Key)] {
				return nil
			}
			r.RangeEnd = nil
			delete(free, string(r.Key))
		}
		return deleteOp(r)
	case 10:
		if depth == txnDepthMax {
			return nil
		}
		nested := g.txn(s, depth+1)
		if careful {
			g.keepApart(nested, free)
		}
		return txnOp(nested)
	default:
		if g.oneIn(12) {
			return &pb.RequestOp{}
		}
		return rangeOp(&pb.RangeRequest{Key: g.key()})
	}
}

// keepApart removes from a nested transaction the writes that would overlap those of its siblings.
func (g *Generator) keepApart(t *pb.TxnRequest, free map[string]bool) {
	taken := map[string]bool{}
	for _, branch := range []*[]*pb.RequestOp{&t.Success, &t.Failure} {
		var kept []*pb.RequestOp
		for _, op := range *branch {
			key := ""
			switch {
			case op.GetRequestPut() != nil:
				key = string(op.GetRequestPut().GetKey())
			case op.GetRequestDeleteRange() != nil:
				key = string(op.GetRequestDeleteRange().GetKey())
			default:
				kept = append(kept, op)
				continue
			}
			if free[key] {
				kept = append(kept, op)
				taken[key] = true
			}
		}
		*branch = kept
	}
	for key := range taken {
		delete(free, key)
	}
}

func (g *Generator) compare(s State) *pb.Compare {
	c := &pb.Compare{
		Key:    g.keyOrEmpty(),
		Result: pb.Compare_CompareResult(g.IntN(4)),
		Target: pb.Compare_CompareTarget(g.IntN(5)),
	}
	if g.oneIn(4) {
		c.Key, c.RangeEnd = g.interval()
	}
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: g.Int64N(4)}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.revision(s)}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.revision(s)}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: []byte(pick(g, valuePool...))}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: g.compareLease()}
	}
	switch g.IntN(30) {
	case 0:
		c.TargetUnion = nil
	case 1: // a value of another type than the target
		c.Target = pb.Compare_CompareTarget(g.IntN(5))
	case 2:
		c.Target = pb.Compare_CompareTarget(7)
	case 3:
		c.Result = pb.Compare_CompareResult(7)
	}
	return c
}

// compareLease avoids ids that the server picked, because their order differs between servers.
func (g *Generator) compareLease() int64 { return g.Int64N(knownLeases + 1) }
