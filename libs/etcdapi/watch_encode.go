package etcdapi

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwaterdb/headwater/libs/watch"
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

// watchMessage is one WatchResponse on its way to the wire: r with the given events instead of its own.
type watchMessage struct {
	r        *watch.Response
	events   []*watch.Event
	fragment bool
}

// encode returns the message for a codec: a small head in front of shared event buffers; no event is copied. It must
// not be apart.
func (e *watchEncoder) encode(m watchMessage) encoded {
	b := make(mem.BufferSlice, 1, 1+len(m.events))
	b[0] = mem.SliceBuffer(e.appendHead(make([]byte, 0, maxWatchHead+len(m.r.CancelReason)), m))
	for _, ev := range m.events {
		b = append(b, ev.Wire(m.r.PrevKV)...)
	}
	return encoded(b)
}

// maxWatchHead is enough for the head of a response without a cancel reason: 10 numbers of at most 11 bytes, and
// lengths.
const maxWatchHead = 96

// appendHead appends all of a message but its events.
func (e *watchEncoder) appendHead(b []byte, m watchMessage) []byte {
	r := m.r
	b = e.append(b, r.Revision)
	b = appendInt(b, fieldWatchID, r.WatchID)
	b = appendBool(b, fieldWatchCreated, r.Created)
	b = appendBool(b, fieldWatchCanceled, r.Canceled)
	b = appendInt(b, fieldWatchCompact, r.CompactRevision)
	if r.CancelReason != "" {
		b = protowire.AppendString(protowire.AppendTag(b, fieldWatchReason, protowire.BytesType), r.CancelReason)
	}
	return appendBool(b, fieldWatchFragment, m.fragment)
}

// split sends r as one message, unless its client takes fragments and it is not smaller than limit: then it is split
// between events as etcd does it: each as big as it can be below limit, at least one event, all but the last marked
// as fragments.
func (e *watchEncoder) split(r *watch.Response, limit int, send func(watchMessage) error) error {
	whole := watchMessage{r: r, events: r.Events}
	if !r.Fragment || len(r.Events) < 2 {
		return send(whole)
	}
	total := len(e.appendHead(nil, whole))
	for _, ev := range r.Events {
		total += ev.WireLen(r.PrevKV)
	}
	if total < limit {
		return send(whole)
	}
	head := len(e.appendHead(nil, watchMessage{r: r, fragment: true}))
	for rest := r.Events; len(rest) > 0; {
		n, size := 1, head+rest[0].WireLen(r.PrevKV)
		for n < len(rest) {
			if size += rest[n].WireLen(r.PrevKV); size >= limit {
				break
			}
			n++
		}
		if err := send(watchMessage{r: r, events: rest[:n], fragment: n < len(rest)}); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}
