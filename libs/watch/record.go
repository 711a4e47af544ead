package watch

import (
	"fmt"
	"time"
	"unsafe"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// record is one log entry in memory. It has its events, or, as long as no watcher has wanted one of them, the bytes of
// which they can be made (raw).
type record struct {
	rev    int64
	raw    []byte // nil: events are there
	events []Event
	at     time.Duration
	apart  bool // some values are not in the entry; known once there are events
	// unwanted is the core's count of groups when none of them wanted an event of the record.
	unwanted uint64
	// bytes is the record's estimated memory: its entry and one wire form.
	bytes int
	// matched are the groups that hold references to these events; they let go when the ring drops the record.
	matched []*group
}

// recordBytes is the memory of a record beside its entry.
const recordBytes = int(unsafe.Sizeof(record{}))

func newRecord(e revlog.Entry, at time.Duration) *record {
	r := &record{rev: e.Rev, at: at}
	r.setEvents(e.Events)
	return r
}

func (r *record) setEvents(events []revlog.Event) {
	r.events, r.bytes = make([]Event, len(events)), eventOverhead
	for i := range events {
		r.events[i].src = &events[i]
		r.events[i].at = r.at
		r.bytes += 2 * r.events[i].weight(true)
		r.apart = r.apart || events[i].KV.Unread() || events[i].Prev.Unread()
	}
}

// newRaw returns the record of an entry that has not been decoded, but can be.
func newRaw(p revlog.Payload, at time.Duration) record {
	return record{rev: p.Rev, raw: p.Bytes, at: at, bytes: recordBytes + len(p.Bytes)}
}

// slabBytes bounds the entries of records that are allocated together, which are in memory until the last of them goes.
const slabBytes = 64 << 10

// appendRaw appends the records of entries that have not been decoded.
func appendRaw(records []*record, ps []revlog.Payload, at time.Duration) []*record {
	for len(ps) > 0 {
		n, bytes := 1, len(ps[0].Bytes)
		for ; n < len(ps) && bytes+len(ps[n].Bytes)+n*recordBytes <= slabBytes; n++ {
			bytes += len(ps[n].Bytes)
		}
		slab := make([]record, n)
		for i := range slab {
			slab[i] = newRaw(ps[i], at)
			records = append(records, &slab[i])
		}
		ps = ps[n:]
	}
	return records
}

// nextEvent decodes the next event of an entry into ev, and returns the rest.
func (r *record) nextEvent(codec revlog.Codec, b []byte, ev *revlog.Event) (rest []byte) {
	rest, err := codec.Next(b, r.rev, ev)
	if err != nil {
		panic(fmt.Sprintf("watch: revision %d cannot be decoded: %v", r.rev, err))
	}
	return rest
}

// namedBytes returns the size of the values that an entry names which nobody has decoded. It needs no lock.
func (r *record) namedBytes(codec revlog.Codec) (n int) {
	var ev revlog.Event
	for b := r.raw; len(b) > 0; {
		b = r.nextEvent(codec, b, &ev)
		for _, kv := range [...]*revlog.KV{&ev.KV, &ev.Prev} {
			if kv.Unread() {
				n += kv.Size
			}
		}
	}
	return n
}

// decode gives a record its events.
func (r *record) decode(codec revlog.Codec) {
	e, err := codec.Parse(r.raw, r.rev)
	if err != nil {
		panic(fmt.Sprintf("watch: revision %d cannot be decoded: %v", r.rev, err))
	}
	r.raw = nil
	r.setEvents(e.Events)
}

// matchedBy returns a record with events if m matches one of its keys: r itself, or a copy. It needs no lock.
func (r *record) matchedBy(m *matcher[found], codec revlog.Codec) *record {
	if r.raw == nil {
		return r
	}
	var ev revlog.Event
	var hits []*found
	for b := r.raw; len(hits) == 0; {
		if len(b) == 0 {
			return r
		}
		b = r.nextEvent(codec, b, &ev)
		hits = m.match(ev.KV.Key, hits)
	}
	d := &record{rev: r.rev, raw: r.raw, at: r.at}
	d.decode(codec)
	return d
}

// want says whether the record has events that groups may want. It decodes the record if a group matches one of its
// keys.
func (c *core) want(r *record) bool {
	if c.groups == 0 || r.unwanted == c.groupsMade {
		return false
	}
	if r.raw == nil {
		return true
	}
	var ev revlog.Event
	for b := r.raw; len(b) > 0; {
		b = r.nextEvent(c.opts.Codec, b, &ev)
		if c.scratch = c.matcher.match(ev.KV.Key, c.scratch[:0]); len(c.scratch) > 0 {
			clear(c.scratch)
			r.decode(c.opts.Codec)
			return true
		}
	}
	r.unwanted = c.groupsMade
	return false
}
