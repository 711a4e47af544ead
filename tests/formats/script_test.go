package formats

import (
	"context"
	"errors"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Leases of the script.
const (
	leaseStays = 1001 + iota
	leaseRevoked
	leaseLater
	leaseProbe = 1
	leaseTTL   = 1_000_000
)

// Sizes of values: one that is stored inline, one of one chunk, and one of several chunks. A chunk is as large as a
// value of FoundationDB may be.
const (
	inline = 100
	middle = 3000
	large  = 100_000
)

// script makes requests one after the other and notes the answers. It stops at the first error.
type script struct {
	ctx     context.Context
	c       *clientv3.Client
	last    int64 // header of the last answer
	answers []answer
	err     error
}

// answer is the answer to one request: the previous versions, or those that were read.
type answer struct {
	what string
	kvs  []version
}

// value returns a value of the given size that no other request writes.
func (s *script) value(size int) string {
	text := fmt.Sprintf("value %d of the script; ", len(s.answers))
	return strings.Repeat(text, size/len(text)+1)[:size]
}

func (s *script) note(what string, h *pb.ResponseHeader, err error, kvs ...*mvccpb.KeyValue) {
	if err != nil {
		s.err = fmt.Errorf("%s: %w", what, err)
		return
	}
	s.last = h.Revision
	a := answer{what: what}
	for _, kv := range kvs {
		if kv != nil {
			a.kvs = append(a.kvs, versionOf(kv))
		}
	}
	s.answers = append(s.answers, a)
}

func (s *script) put(key string, size int, opts ...clientv3.OpOption) {
	if s.err != nil {
		return
	}
	r, err := s.c.Put(s.ctx, key, s.value(size), append(opts, clientv3.WithPrevKV())...)
	if err != nil {
		s.note("put "+key, nil, err)
		return
	}
	s.note("put "+key, r.Header, nil, r.PrevKv)
}

func (s *script) remove(key string, opts ...clientv3.OpOption) {
	if s.err != nil {
		return
	}
	r, err := s.c.Delete(s.ctx, key, append(opts, clientv3.WithPrevKV())...)
	if err != nil {
		s.note("delete "+key, nil, err)
		return
	}
	s.note("delete "+key, r.Header, nil, r.PrevKvs...)
}

func (s *script) txn(what string, cmp clientv3.Cmp, then ...clientv3.Op) {
	if s.err != nil {
		return
	}
	r, err := s.c.Txn(s.ctx).If(cmp).Then(then...).Commit()
	if err != nil {
		s.note(what, nil, err)
		return
	}
	var kvs []*mvccpb.KeyValue
	for _, op := range r.Responses {
		kvs = append(kvs, op.GetResponseRange().GetKvs()...)
		kvs = append(kvs, op.GetResponsePut().GetPrevKv())
		kvs = append(kvs, op.GetResponseDeleteRange().GetPrevKvs()...)
	}
	s.note(fmt.Sprintf("%s: %v", what, r.Succeeded), r.Header, nil, kvs...)
}

func (s *script) grant(id int64) {
	if s.err != nil {
		return
	}
	_, err := pb.NewLeaseClient(s.c.ActiveConnection()).LeaseGrant(s.ctx, &pb.LeaseGrantRequest{ID: id, TTL: leaseTTL})
	if err != nil {
		s.err = err
	}
}

func (s *script) revoke(id clientv3.LeaseID) {
	if s.err != nil {
		return
	}
	if _, err := s.c.Revoke(s.ctx, id); err != nil {
		s.err = fmt.Errorf("revoke %d: %w", id, err)
	}
}

// disarm clears all alarms, and returns when all pods obey.
func (s *script) disarm() {
	if s.err != nil {
		return
	}
	if _, s.err = s.c.AlarmDisarm(s.ctx, noAlarm); s.err != nil {
		return
	}
	for s.grant(leaseProbe); errors.Is(rpctypes.Error(s.err), rpctypes.ErrNoSpace); s.grant(leaseProbe) {
		s.err = s.ctx.Err()
	}
	s.revoke(leaseProbe)
}

func (s *script) compact() {
	if s.err != nil {
		return
	}
	if _, err := s.c.Compact(s.ctx, s.last, clientv3.WithCompactPhysical()); err != nil {
		s.err = fmt.Errorf("compact: %w", err)
	}
}

// first writes what the fixtures hold: values of all sizes, which values of all sizes replace, and which are deleted
// and made again, before and after a compaction; leases; an alarm. It returns the compact revision.
func (s *script) first() (compacted int64) {
	s.round("before", leaseStays)
	s.grant(leaseRevoked)
	s.put("leased/gone", middle, clientv3.WithLease(leaseRevoked))
	s.put("leased/gone/too", inline, clientv3.WithLease(leaseRevoked))
	s.revoke(leaseRevoked)
	for range 3 {
		s.put("kept/over/the/compaction", large)
	}
	s.put("marks the compaction", inline)
	compacted = s.last
	s.compact()
	s.round("after", leaseLater)
	s.put("end", inline)
	if s.err == nil {
		alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE}
		_, s.err = pb.NewMaintenanceClient(s.c.ActiveConnection()).Alarm(s.ctx, alarm)
	}
	return compacted
}

// round replaces, deletes and makes again a set of keys.
func (s *script) round(name string, lease int64) {
	s.grant(lease)
	attach := clientv3.WithLease(clientv3.LeaseID(lease))
	for _, size := range []int{inline, 0, middle, large, middle, inline} {
		s.put("changes", size)
	}
	s.put("zero\x00byte", middle)
	s.put("zero", inline)
	s.put("zero\x00byte", middle)
	s.put("leased/small", inline, attach)
	s.put("leased/large", middle, attach)
	s.put(name+"/stays/small", inline)
	s.put(name+"/stays/large", large)
	s.put(name+"/goes/small", inline)
	s.put(name+"/goes/large", middle)
	s.txn("several in one revision", clientv3.Compare(clientv3.Version("changes"), ">", 0),
		clientv3.OpPut("txn/small", s.value(inline), clientv3.WithPrevKV()),
		clientv3.OpPut("txn/large", s.value(middle), clientv3.WithPrevKV()),
		clientv3.OpDelete(name+"/goes/", clientv3.WithPrefix(), clientv3.WithPrevKV()),
		clientv3.OpGet("changes"))
	s.put("again", large)
	s.remove("again")
	s.put("again", middle)
}

// second changes in every way the keys that first has left.
func (s *script) second() {
	s.disarm()
	s.round("again", leaseLater+1)
	s.round("and/again", leaseLater+2)
	s.revoke(leaseStays)
	s.revoke(leaseLater)
	s.revoke(leaseLater + 1)
	s.put("leased/large", large, clientv3.WithLease(leaseLater+2))
	s.put("kept/over/the/compaction", middle)
	s.put("marks the compaction", large)
	s.remove("before/", clientv3.WithPrefix())
	s.remove("after/", clientv3.WithPrefix())
	s.put("end", middle)
}

// third compacts everything that second has replaced.
func (s *script) third() (compacted int64) {
	compacted = s.last
	s.compact()
	s.put("end", inline)
	return compacted
}
