package watchload

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of etcd's rpc.proto and kv.proto.
const (
	fieldHeader         = 1 // of every response
	fieldHeaderRevision = 3

	fieldWatchID         = 2
	fieldCreated         = 3
	fieldCanceled        = 4
	fieldCompactRevision = 5
	fieldCancelReason    = 6
	fieldEvents          = 11

	fieldEventType = 1
	fieldEventKV   = 2
	fieldEventPrev = 3

	fieldModRevision = 3
	fieldVersion     = 4
	fieldValue       = 5

	fieldPutKey   = 1
	fieldPutValue = 2
)

// stampBytes is the start of each value: when its put was sent, in nanoseconds since epoch.
const stampBytes = 8

var errWire = errors.New("watchload: malformed response")

// cursor reads protobuf from a message that lies in several buffers, without copying them together.
type cursor struct {
	seg  []byte          // what is left of the current buffer
	rest mem.BufferSlice // buffers after it
	left int             // bytes from here to the end of the message
}

func newCursor(data mem.BufferSlice) cursor { return cursor{rest: data, left: data.Len()} }

// refill moves to the next buffer that holds something. There must be one: left > 0.
func (c *cursor) refill() {
	for len(c.seg) == 0 {
		c.seg, c.rest = c.rest[0].ReadOnlyData(), c.rest[1:]
	}
}

// uvarint reads a varint that ends before only end bytes are left.
func (c *cursor) uvarint(end int) (v uint64, err error) {
	for shift := 0; shift < 64; shift += 7 {
		if c.left <= end {
			return 0, errWire
		}
		if len(c.seg) == 0 {
			c.refill()
		}
		b := c.seg[0]
		c.seg = c.seg[1:]
		c.left--
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errWire
}

// skip passes over n bytes, which must be there.
func (c *cursor) skip(n int) {
	c.left -= n
	for n > len(c.seg) {
		n -= len(c.seg)
		c.seg = nil
		c.refill()
	}
	c.seg = c.seg[n:]
}

// fill reads len(dst) bytes, which must be there.
func (c *cursor) fill(dst []byte) {
	c.left -= len(dst)
	for len(dst) > 0 {
		if len(c.seg) == 0 {
			c.refill()
		}
		n := copy(dst, c.seg)
		dst, c.seg = dst[n:], c.seg[n:]
	}
}

// field is a field's number and its value: the varint, or the length of the bytes that follow.
type field struct {
	num   int
	value uint64
	bytes bool
}

// inner returns how many bytes are left when the bytes of f have been read.
func (c *cursor) inner(f field) int { return c.left - int(f.value) }

// next reads the next field of a message that ends when end bytes are left. Fixed-size fields, which no response here
// has, are passed over with the value 0. The length of bytes is within the message.
func (c *cursor) next(end int) (f field, err error) {
	tag, err := c.uvarint(end)
	if err != nil {
		return field{}, err
	}
	num, typ := protowire.DecodeTag(tag)
	if !num.IsValid() {
		return field{}, errWire
	}
	f.num = int(num)
	fixed := 0
	switch typ {
	case protowire.VarintType:
		f.value, err = c.uvarint(end)
		return f, err
	case protowire.BytesType:
		f.bytes = true
		if f.value, err = c.uvarint(end); err != nil || f.value > uint64(c.left-end) {
			return field{}, errWire
		}
		return f, nil
	case protowire.Fixed32Type:
		fixed = 4
	case protowire.Fixed64Type:
		fixed = 8
	default:
		return field{}, errWire
	}
	if c.left-end < fixed {
		return field{}, errWire
	}
	c.skip(fixed)
	return f, nil
}

// event is what a client checks of an event.
type event struct {
	rev, version int64
	stamp        int64 // of the value; -1 if the event has none
	prev         bool  // it carries the previous version
}

// watchResponse is what a client needs of an etcdserverpb.WatchResponse. It is reused from message to message.
type watchResponse struct {
	id, revision      int64
	created, canceled bool
	compactRevision   int64
	reason            string
	events            []event
}

// scan reads a message into r.
func (r *watchResponse) scan(data mem.BufferSlice) error {
	*r = watchResponse{events: r.events[:0]}
	c := newCursor(data)
	for c.left > 0 {
		f, err := c.next(0)
		if err != nil {
			return err
		}
		switch {
		case f.num == fieldWatchID && !f.bytes:
			r.id = int64(f.value)
		case f.num == fieldCreated && !f.bytes:
			r.created = f.value != 0
		case f.num == fieldCanceled && !f.bytes:
			r.canceled = f.value != 0
		case f.num == fieldCompactRevision && !f.bytes:
			r.compactRevision = int64(f.value)
		case f.num == fieldHeader && f.bytes:
			r.revision, err = c.headerRevision(c.inner(f))
		case f.num == fieldCancelReason && f.bytes:
			b := make([]byte, f.value)
			c.fill(b)
			r.reason = string(b)
		case f.num == fieldEvents && f.bytes:
			var ev event
			ev, err = c.event(c.inner(f))
			r.events = append(r.events, ev)
		case f.bytes:
			c.skip(int(f.value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *cursor) headerRevision(end int) (rev int64, err error) {
	for c.left > end {
		f, err := c.next(end)
		switch {
		case err != nil:
			return 0, err
		case f.bytes:
			c.skip(int(f.value))
		case f.num == fieldHeaderRevision:
			rev = int64(f.value)
		}
	}
	return rev, nil
}

func (c *cursor) event(end int) (ev event, err error) {
	ev.stamp = -1
	for c.left > end {
		f, err := c.next(end)
		switch {
		case err != nil:
			return ev, err
		case f.bytes && f.num == fieldEventKV:
			err = c.keyValue(c.inner(f), &ev)
		case f.bytes:
			ev.prev = ev.prev || f.num == fieldEventPrev
			c.skip(int(f.value))
		case f.num == fieldEventType && f.value != 0:
			err = fmt.Errorf("%w: an event that is not a put", errWire)
		}
		if err != nil {
			return ev, err
		}
	}
	return ev, nil
}

func (c *cursor) keyValue(end int, ev *event) error {
	for c.left > end {
		f, err := c.next(end)
		switch {
		case err != nil:
			return err
		case f.bytes && f.num == fieldValue && f.value >= stampBytes:
			var stamp [stampBytes]byte
			c.fill(stamp[:])
			ev.stamp = int64(binary.LittleEndian.Uint64(stamp[:]))
			c.skip(int(f.value) - stampBytes)
		case f.bytes:
			c.skip(int(f.value))
		case f.num == fieldModRevision:
			ev.rev = int64(f.value)
		case f.num == fieldVersion:
			ev.version = int64(f.value)
		}
	}
	return nil
}

// answer is what a client needs of the answer to a write: the revision of its header.
type answer struct{ revision int64 }

func (a *answer) scan(data mem.BufferSlice) error {
	c := newCursor(data)
	for c.left > 0 {
		f, err := c.next(0)
		switch {
		case err != nil:
			return err
		case f.bytes && f.num == fieldHeader:
			a.revision, err = c.headerRevision(c.inner(f))
		case f.bytes:
			c.skip(int(f.value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// appendPut appends a PutRequest whose value is the stamp and body.
func appendPut(b []byte, key string, stamp int64, body string) []byte {
	b = protowire.AppendTag(b, fieldPutKey, protowire.BytesType)
	b = protowire.AppendString(b, key)
	b = protowire.AppendTag(b, fieldPutValue, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(stampBytes+len(body)))
	b = binary.LittleEndian.AppendUint64(b, uint64(stamp))
	return append(b, body...)
}
