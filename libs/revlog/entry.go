package revlog

import (
	"encoding/binary"
	"math"
)

// Flags of an event in an encoded entry.
const (
	flagDelete = 1 << iota
	flagPrev
	flagLease
	flagPrevLease
	flagOwn     // the new value is stored at PlaceOwn
	flagPrevOwn // the previous value is
	flagPrevOld // it is stored at PlaceOld
	flagsKnown  = flagDelete | flagPrev | flagLease | flagPrevLease | flagOwn | flagPrevOwn | flagPrevOld
)

// flagsOf returns the flags of an event. A new value is never stored at PlaceOld: an event of format 1 has it inline.
func flagsOf(ev *Event) (flags byte) {
	set := func(on bool, flag byte) {
		if on {
			flags |= flag
		}
	}
	set(ev.Delete, flagDelete)
	set(ev.HasPrev, flagPrev)
	set(ev.KV.Lease != 0, flagLease)
	set(ev.KV.Place == PlaceOwn, flagOwn)
	if ev.HasPrev {
		set(ev.Prev.Lease != 0, flagPrevLease)
		set(ev.Prev.Place == PlaceOwn, flagPrevOwn)
		set(ev.Prev.Place == PlaceOld, flagPrevOld)
	}
	return flags
}

// placesOf returns where the new and the previous value are.
func placesOf(flags byte) (kv, prev Place, err error) {
	if flags&flagOwn != 0 {
		kv = PlaceOwn
	}
	switch {
	case flags&(flagPrevOwn|flagPrevOld) == flagPrevOwn|flagPrevOld,
		flags&(flagPrevOwn|flagPrevOld) != 0 && flags&flagPrev == 0, kv == PlaceOwn && flags&flagDelete != 0:
		return 0, 0, ErrCorrupt
	case flags&flagPrevOwn != 0:
		prev = PlaceOwn
	case flags&flagPrevOld != 0:
		prev = PlaceOld
	}
	return kv, prev, nil
}

// Codec encodes and decodes entries. It is immutable.
type Codec struct {
	RowRevs
}

// AppendEvent appends an event of the entry with revision own to b. It returns the extended slice, and the offsets in
// it of the key, the value and the previous value, so that the caller can point at them. If a value is stored
// elsewhere, only its size is appended, and its offset means nothing.
func (c Codec) AppendEvent(b []byte, ev *Event, own int64) (out []byte, at Offsets) {
	b = append(b, flagsOf(ev))
	b = binary.AppendUvarint(b, uint64(len(ev.KV.Key)))
	at.Key = len(b)
	b = append(b, ev.KV.Key...)
	if !ev.Delete {
		b = c.appendMeta(b, &ev.KV, own)
		b, at.Value = appendValue(b, &ev.KV)
	}
	if ev.HasPrev {
		b = c.Append(b, ev.Prev.Mod, own)
		b = c.appendMeta(b, &ev.Prev, own)
		b, at.Prev = appendValue(b, &ev.Prev)
	}
	return b, at
}

// Offsets says where the parts of an event lie in its entry.
type Offsets struct {
	Key, Value, Prev int
}

// appendValue appends the size of a value, and the value if it is inline. at is the offset of the value.
func appendValue(b []byte, kv *KV) (out []byte, at int) {
	b = binary.AppendUvarint(b, uint64(kv.Bytes()))
	at = len(b)
	if kv.Place == PlaceInline {
		b = append(b, kv.Value...)
	}
	return b, at
}

// parseValue is the inverse of appendValue; kv.Place is known.
func parseValue(b []byte, kv *KV) (rest []byte, err error) {
	if kv.Place == PlaceInline {
		kv.Value, rest, err = parseBytes(b)
		return rest, err
	}
	size, rest, err := parseUint(b)
	if err != nil || size == 0 || size > sizeMax {
		return nil, ErrCorrupt
	}
	kv.Size = int(size)
	return rest, nil
}

// sizeMax bounds the sizes of values that are stored elsewhere. A transaction cannot hold more.
const sizeMax = math.MaxInt32

func (c Codec) appendMeta(b []byte, kv *KV, own int64) []byte {
	b = c.Append(b, kv.Create, own)
	b = binary.AppendUvarint(b, uint64(kv.Version))
	if kv.Lease != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(kv.Lease))
	}
	return b
}

// parseMeta is the inverse of appendMeta; ref is the length of the reference to kv.Create.
func (c Codec) parseMeta(b []byte, kv *KV, lease bool, own int64) (rest []byte, ref int, err error) {
	before := len(b)
	if kv.Create, b, err = c.RowRevs.Parse(b, own); err != nil {
		return nil, 0, err
	}
	ref = before - len(b)
	v, b, err := parseUint(b)
	if err != nil {
		return nil, 0, err
	}
	kv.Version = int64(v)
	if lease {
		if len(b) < 8 {
			return nil, 0, ErrCorrupt
		}
		kv.Lease = int64(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	return b, ref, nil
}

// Parse decodes the events of the entry with revision rev. The events point into b.
func (c Codec) Parse(b []byte, rev int64) (Entry, error) {
	e := Entry{Rev: rev}
	err := c.Visit(b, rev, func(ev *Event, _ PrevAt) { e.Events = append(e.Events, *ev) })
	if err != nil {
		return Entry{}, err
	}
	return e, nil
}

// PrevAt says where the previous version is in an encoded event.
type PrevAt struct {
	RowRevs int // length of the references to its revisions Mod and Create, as RowRevs.Append makes them
	Value   int // where its value lies in the entry, if it is inline
}

// Visit decodes like Parse, but calls visit for one event after another. The event is valid during the call. at means
// nothing for an event without a previous version.
func (c Codec) Visit(b []byte, rev int64, visit func(ev *Event, at PrevAt)) error {
	for size := len(b); len(b) > 0; {
		var ev Event
		var at PrevAt
		var err error
		if b, at.RowRevs, err = c.parseEvent(b, &ev, rev); err != nil {
			return err
		}
		at.Value = size - len(b) - len(ev.Prev.Value)
		visit(&ev, at)
	}
	return nil
}

// Check says whether Parse can decode an entry. It allocates nothing. Errors: ErrCorrupt.
func (c Codec) Check(b []byte, rev int64) (err error) {
	var ev Event
	for len(b) > 0 && err == nil {
		b, err = c.Next(b, rev, &ev)
	}
	return err
}

// Next decodes the first event of what is left of the entry with revision rev into ev, and returns the rest. b must not
// be empty. The event points into b. Errors: ErrCorrupt.
func (c Codec) Next(b []byte, rev int64, ev *Event) (rest []byte, err error) {
	*ev = Event{}
	rest, _, err = c.parseEvent(b, ev, rev)
	return rest, err
}

func (c Codec) parseEvent(b []byte, ev *Event, rev int64) (rest []byte, refs int, err error) {
	flags := b[0]
	if flags&^byte(flagsKnown) != 0 {
		return nil, 0, ErrCorrupt
	}
	if ev.KV.Place, ev.Prev.Place, err = placesOf(flags); err != nil {
		return nil, 0, err
	}
	key, b, err := parseBytes(b[1:])
	if err != nil {
		return nil, 0, err
	}
	ev.Delete = flags&flagDelete != 0
	ev.HasPrev = flags&flagPrev != 0
	ev.KV.Key, ev.KV.Mod = key, rev
	if !ev.Delete {
		if b, _, err = c.parseMeta(b, &ev.KV, flags&flagLease != 0, rev); err != nil {
			return nil, 0, err
		}
		if b, err = parseValue(b, &ev.KV); err != nil {
			return nil, 0, err
		}
	}
	if !ev.HasPrev {
		return b, 0, nil
	}
	ev.Prev.Key = key
	before := len(b)
	if ev.Prev.Mod, b, err = c.RowRevs.Parse(b, rev); err != nil {
		return nil, 0, err
	}
	refs = before - len(b)
	b, n, err := c.parseMeta(b, &ev.Prev, flags&flagPrevLease != 0, rev)
	if err != nil {
		return nil, 0, err
	}
	b, err = parseValue(b, &ev.Prev)
	return b, refs + n, err
}
