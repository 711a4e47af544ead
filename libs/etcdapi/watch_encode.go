package etcdapi

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wire"
)

// Field numbers of etcdserverpb.ResponseHeader and WatchResponse (rpc.proto); field 11, events, is encoded by watch.Event.
const (
	fieldHeaderCluster  = 1
	fieldHeaderMember   = 2
	fieldHeaderRevision = 3
	fieldHeaderTerm     = 4

	fieldWatchHeader   = 1
	fieldWatchID       = 2
	fieldWatchCreated  = 3
	fieldWatchCanceled = 4
	fieldWatchCompact  = 5
	fieldWatchReason   = 6
	fieldWatchFragment = 7
)

// watchEncoder writes WatchResponses: the part of the header that never changes is encoded once.
type watchEncoder struct{ ids, term []byte }

func newWatchEncoder(h Header) *watchEncoder {
	e := &watchEncoder{term: appendUint(nil, fieldHeaderTerm, h.RaftTerm)}
	e.ids = appendUint(appendUint(nil, fieldHeaderCluster, h.ClusterID), fieldHeaderMember, h.MemberID)
	return e
}

// watchMessage is a WatchResponse on its way to the wire: its own small head in front of shared event buffers.
type watchMessage struct {
	head   []byte
	events []*watch.Event
	prevKV bool
}

var _ wire.Marshaler = (*watchMessage)(nil)

// MarshalWire implements wire.Marshaler; no event is copied.
func (m *watchMessage) MarshalWire() (mem.BufferSlice, error) {
	b := make(mem.BufferSlice, 1, 1+len(m.events))
	b[0] = mem.SliceBuffer(m.head)
	for _, e := range m.events {
		b = append(b, e.Wire(m.prevKV))
	}
	return b, nil
}

// maxWatchHead is enough for the head of a response without a cancel reason: 10 numbers of at most 11 bytes, and lengths.
const maxWatchHead = 96

// message is r with the given events instead of its own.
func (e *watchEncoder) message(r *watch.Response, events []*watch.Event, fragment bool) *watchMessage {
	rev := uint64(r.Revision)
	b := make([]byte, 0, maxWatchHead+len(r.CancelReason))
	b = protowire.AppendTag(b, fieldWatchHeader, protowire.BytesType)
	n := len(e.ids) + len(e.term)
	if rev != 0 {
		n += protowire.SizeTag(fieldHeaderRevision) + protowire.SizeVarint(rev)
	}
	b = protowire.AppendVarint(b, uint64(n))
	b = append(b, e.ids...)
	b = appendUint(b, fieldHeaderRevision, rev)
	b = append(b, e.term...)
	b = appendUint(b, fieldWatchID, uint64(r.WatchID))
	b = appendTrue(b, fieldWatchCreated, r.Created)
	b = appendTrue(b, fieldWatchCanceled, r.Canceled)
	b = appendUint(b, fieldWatchCompact, uint64(r.CompactRevision))
	if r.CancelReason != "" {
		b = protowire.AppendString(protowire.AppendTag(b, fieldWatchReason, protowire.BytesType), r.CancelReason)
	}
	b = appendTrue(b, fieldWatchFragment, fragment)
	return &watchMessage{head: b, events: events, prevKV: r.PrevKV}
}

// fragments sends r as one message if it is smaller than limit, else split between events as etcd does it: each as
// big as it can be below limit, at least one event, all but the last marked as fragments.
func (e *watchEncoder) fragments(r *watch.Response, limit int, send func(*watchMessage) error) error {
	whole := e.message(r, r.Events, false)
	total := len(whole.head)
	for _, ev := range r.Events {
		total += ev.Wire(r.PrevKV).Len()
	}
	if total < limit {
		return send(whole)
	}
	head := len(e.message(r, nil, true).head)
	for rest := r.Events; len(rest) > 0; {
		n, size := 1, head+rest[0].Wire(r.PrevKV).Len()
		for n < len(rest) {
			if size += rest[n].Wire(r.PrevKV).Len(); size >= limit {
				break
			}
			n++
		}
		if err := send(e.message(r, rest[:n], n < len(rest))); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// appendTrue appends a bool field if it is set.
func appendTrue(b []byte, field protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return appendUint(b, field, 1)
}
