package etcdapi

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wire"
)

// Field numbers of etcdserverpb.WatchResponse (rpc.proto); field 11, events, is encoded by watch.Event.
const (
	fieldWatchID       = 2
	fieldWatchCreated  = 3
	fieldWatchCanceled = 4
	fieldWatchCompact  = 5
	fieldWatchReason   = 6
	fieldWatchFragment = 7
)

// watchEncoder writes WatchResponses.
type watchEncoder struct{ headerCodec }

func newWatchEncoder(h Header) *watchEncoder { return &watchEncoder{newHeaderCodec(h)} }

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
	b := make([]byte, 0, maxWatchHead+len(r.CancelReason))
	b = e.append(b, r.Revision)
	b = appendInt(b, fieldWatchID, r.WatchID)
	b = appendBool(b, fieldWatchCreated, r.Created)
	b = appendBool(b, fieldWatchCanceled, r.Canceled)
	b = appendInt(b, fieldWatchCompact, r.CompactRevision)
	if r.CancelReason != "" {
		b = protowire.AppendString(protowire.AppendTag(b, fieldWatchReason, protowire.BytesType), r.CancelReason)
	}
	b = appendBool(b, fieldWatchFragment, fragment)
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
