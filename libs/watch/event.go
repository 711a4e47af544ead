package watch

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// Protobuf field numbers of etcd's api (etcdserverpb/rpc.proto, mvccpb/kv.proto).
const (
	fieldResponseEvents = 11

	fieldEventType   = 1
	fieldEventKV     = 2
	fieldEventPrevKV = 3

	fieldKVKey     = 1
	fieldKVCreate  = 2
	fieldKVMod     = 3
	fieldKVVersion = 4
	fieldKVValue   = 5
	fieldKVLease   = 6

	eventTypeDelete = 1
)

// Event is one event of one revision, shared by all watchers that get it. Its wire forms are made on first use and live
// as long as the event. It is safe for use from any goroutine.
type Event struct {
	src *revlog.Event
	at  time.Duration // when Apply got it, on the hub's clock; 0 for events read back from history
	// The two wire forms, nil until first used. If two goroutines both make one, the forms are equal.
	plain, prev atomic.Pointer[encoded]
	// read are the values that the entry only names, after a watcher has wanted them.
	read atomic.Pointer[values]
}

// values are what has been read of an event's values. It is never changed.
type values struct {
	kv, prev []byte
	// noPrev: a compaction has removed the previous value. The event is then sent without prev_kv, as etcd does when it
	// no longer has the revision before.
	noPrev bool
	// lostKV, lostPrev: a value that watchers must get cannot be read. It is the new value, or it is damaged.
	lostKV, lostPrev bool
	// from, if set, is where each who sends the event reads the values that are not here.
	from ValueReader
}

// encoded is a wire form. Most forms are one buffer and need no slice of their own.
type encoded struct {
	parts mem.BufferSlice
	one   [1]mem.Buffer
}

// valueApart is the size from which on wire forms share a value instead of copying it. So a request with many large
// values, such as a delete that watchers with prev_kv see, is in memory once and not once more per form.
const valueApart = 4 << 10

// Rev is the revision of the event.
func (e *Event) Rev() int64 { return e.src.KV.Mod }

// Wire returns the field `events` of a WatchResponse with this event: tag, length and mvccpb.Event, with or without
// prev_kv. The buffers and the slice are shared and must not be changed. A large value is a buffer of its own.
func (e *Event) Wire(withPrev bool) mem.BufferSlice {
	// Load it before the wire form: whoever drops a value has stored the form first.
	v := e.read.Load()
	p := &e.plain
	if withPrev && e.src.HasPrev && (v == nil || !v.noPrev) {
		p = &e.prev
	}
	if enc := p.Load(); enc != nil {
		return enc.parts
	}
	src := *e.src
	if v != nil {
		if src.KV.Unread() {
			src.KV.Value = v.kv
		}
		if src.Prev.Unread() {
			src.Prev.Value = v.prev
		}
	}
	enc := encodeEvent(&src, p == &e.prev)
	p.Store(enc)
	if p == &e.prev && v != nil && v.prev != nil {
		rest := *v
		rest.prev = nil // nothing else needs it
		e.read.CompareAndSwap(v, &rest)
	}
	return enc.parts
}

// unread returns the versions of the event whose values a watcher needs and nobody has read. It must be empty when Wire
// is called.
func (e *Event) unread(withPrev bool, dst []unread) []unread {
	var v values
	if p := e.read.Load(); p != nil {
		v = *p
	}
	if v.from != nil {
		return dst
	}
	if e.src.KV.Unread() && v.kv == nil && !v.lostKV {
		dst = append(dst, unread{e, false})
	}
	if withPrev && e.src.Prev.Unread() && v.prev == nil && !v.noPrev && !v.lostPrev && e.prev.Load() == nil {
		dst = append(dst, unread{e, true})
	}
	return dst
}

// lost says whether a value that watchers of a spec must get cannot be read.
func (e *Event) lost(sp spec) bool {
	v := e.read.Load()
	return v != nil && (v.lostKV || sp.prevKV && v.lostPrev)
}

// unread names a value of an event.
type unread struct {
	event *Event
	prev  bool
}

// kv returns the version of the value.
func (u unread) kv() *revlog.KV {
	if u.prev {
		return &u.event.src.Prev
	}
	return &u.event.src.KV
}

// set gives the event its value; nil: a compaction has removed it.
func (u unread) set(value []byte) {
	u.update(func(v *values) {
		switch {
		case u.prev && value == nil:
			v.noPrev = true
		case u.prev:
			v.prev = value
		case value == nil:
			v.lostKV = true
		default:
			v.kv = value
		}
	})
}

// lose notes that the value cannot be read.
func (u unread) lose() {
	u.update(func(v *values) {
		if u.prev {
			v.lostPrev = true
		} else {
			v.lostKV = true
		}
	})
}

func (u unread) update(f func(*values)) {
	for {
		old := u.event.read.Load()
		v := values{}
		if old != nil {
			v = *old
		}
		if f(&v); u.event.read.CompareAndSwap(old, &v) {
			return
		}
	}
}

// weight estimates the memory of the event's wire form, for the limits of turns and responses.
func (e *Event) weight(withPrev bool) int {
	n := eventOverhead + len(e.src.KV.Key) + e.src.KV.Bytes()
	if withPrev && e.src.HasPrev {
		n += len(e.src.Prev.Key) + e.src.Prev.Bytes()
	}
	return n
}

// eventOverhead is what an event takes in addition to its bytes: structs, headers of slices, numbers.
const eventOverhead = 160

// wireSizes are the lengths of the parts of a wire form.
type wireSizes struct{ kv, prev, event int }

func sizesOf(ev *revlog.Event, withPrev bool) (n wireSizes) {
	n.kv = sizeKV(&ev.KV)
	n.event = protowire.SizeTag(fieldEventKV) + protowire.SizeBytes(n.kv)
	if ev.Delete {
		n.event += protowire.SizeTag(fieldEventType) + protowire.SizeVarint(eventTypeDelete)
	}
	if withPrev {
		n.prev = sizeKV(&ev.Prev)
		n.event += protowire.SizeTag(fieldEventPrevKV) + protowire.SizeBytes(n.prev)
	}
	return n
}

// total is the length of the wire form.
func (n *wireSizes) total() int {
	return protowire.SizeTag(fieldResponseEvents) + protowire.SizeBytes(n.event)
}

// encodeEvent makes field 11 of etcdserverpb.WatchResponse for ev.
func encodeEvent(ev *revlog.Event, withPrev bool) *encoded {
	n := sizesOf(ev, withPrev)
	apart := apartOf(&ev.KV)
	if withPrev {
		apart += apartOf(&ev.Prev)
	}
	enc := &encoded{}
	b := make([]byte, 0, n.total()-apart)
	b = protowire.AppendTag(b, fieldResponseEvents, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n.event))
	if ev.Delete {
		b = appendInt(b, fieldEventType, eventTypeDelete)
	}
	b = protowire.AppendTag(b, fieldEventKV, protowire.BytesType)
	b = enc.appendKV(protowire.AppendVarint(b, uint64(n.kv)), &ev.KV)
	if withPrev {
		b = protowire.AppendTag(b, fieldEventPrevKV, protowire.BytesType)
		b = enc.appendKV(protowire.AppendVarint(b, uint64(n.prev)), &ev.Prev)
	}
	enc.end(b)
	return enc
}

// apartOf returns how many bytes of a version are shared instead of copied.
func apartOf(kv *revlog.KV) int {
	if kv.Unread() {
		return kv.Size
	}
	if len(kv.Value) < valueApart {
		return 0
	}
	return len(kv.Value)
}

// appendKV appends a version, and returns what is still to be ended.
func (enc *encoded) appendKV(b []byte, kv *revlog.KV) []byte {
	b = appendBytes(b, fieldKVKey, kv.Key)
	b = appendInt(b, fieldKVCreate, kv.Create)
	b = appendInt(b, fieldKVMod, kv.Mod)
	b = appendInt(b, fieldKVVersion, kv.Version)
	if apartOf(kv) == 0 {
		b = appendBytes(b, fieldKVValue, kv.Value)
	} else {
		b = protowire.AppendTag(b, fieldKVValue, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(apartOf(kv)))
		enc.parts = append(enc.parts, mem.SliceBuffer(b), mem.SliceBuffer(kv.Value)) // nil if it has not been read
		b = b[len(b):]
	}
	return appendInt(b, fieldKVLease, kv.Lease)
}

// end adds the last part.
func (enc *encoded) end(b []byte) {
	switch {
	case enc.parts == nil:
		enc.one[0] = mem.SliceBuffer(b)
		enc.parts = enc.one[:]
	case len(b) > 0:
		enc.parts = append(enc.parts, mem.SliceBuffer(b))
	}
}

func sizeKV(kv *revlog.KV) int {
	n := sizeBytes(fieldKVKey, kv.Key) + sizeInt(fieldKVCreate, kv.Create) + sizeInt(fieldKVMod, kv.Mod) +
		sizeInt(fieldKVVersion, kv.Version) + sizeInt(fieldKVLease, kv.Lease)
	if kv.Unread() {
		return n + protowire.SizeTag(fieldKVValue) + protowire.SizeBytes(kv.Size)
	}
	return n + sizeBytes(fieldKVValue, kv.Value)
}

// proto3 leaves out zero numbers and empty strings.

func sizeInt(field protowire.Number, v int64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeVarint(uint64(v))
}

func appendInt(b []byte, field protowire.Number, v int64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

func sizeBytes(field protowire.Number, v []byte) int {
	if len(v) == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeBytes(len(v))
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}
