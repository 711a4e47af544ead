package revlog

import "encoding/binary"

// Flags of an event in an encoded entry.
const (
	flagDelete = 1 << iota
	flagPrev
	flagLease
	flagPrevLease
	flagsKnown = flagDelete | flagPrev | flagLease | flagPrevLease
)

// Codec encodes and decodes entries. It is immutable.
type Codec struct {
	Refs
}

// AppendEvent appends an event of the entry with revision own to b. It returns the extended slice and the offsets within
// it of the key, the value and the previous value, so that the caller can point at them.
func (c Codec) AppendEvent(b []byte, ev *Event, own int64) (out []byte, at Offsets) {
	var flags byte
	if ev.Delete {
		flags |= flagDelete
	}
	if ev.HasPrev {
		flags |= flagPrev
	}
	if ev.KV.Lease != 0 {
		flags |= flagLease
	}
	if ev.HasPrev && ev.Prev.Lease != 0 {
		flags |= flagPrevLease
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(len(ev.KV.Key)))
	at.Key = len(b)
	b = append(b, ev.KV.Key...)
	if !ev.Delete {
		b = c.appendMeta(b, &ev.KV, own)
		b = appendBytes(b, ev.KV.Value)
		at.Value = len(b) - len(ev.KV.Value)
	}
	if ev.HasPrev {
		b = c.Append(b, ev.Prev.Mod, own)
		b = c.appendMeta(b, &ev.Prev, own)
		b = appendBytes(b, ev.Prev.Value)
		at.Prev = len(b) - len(ev.Prev.Value)
	}
	return b, at
}

// Offsets says where the parts of an event lie in its entry.
type Offsets struct {
	Key, Value, Prev int
}

func (c Codec) appendMeta(b []byte, kv *KV, own int64) []byte {
	b = c.Append(b, kv.Create, own)
	b = binary.AppendUvarint(b, uint64(kv.Version))
	if kv.Lease != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(kv.Lease))
	}
	return b
}

func (c Codec) parseMeta(b []byte, kv *KV, lease bool, own int64) ([]byte, error) {
	var err error
	if kv.Create, b, err = c.Refs.Parse(b, own); err != nil {
		return nil, err
	}
	v, b, err := parseUint(b)
	if err != nil {
		return nil, err
	}
	kv.Version = int64(v)
	if lease {
		if len(b) < 8 {
			return nil, ErrCorrupt
		}
		kv.Lease = int64(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	return b, nil
}

// Parse decodes the events of the entry with revision rev. The events point into b.
func (c Codec) Parse(b []byte, rev int64) (Entry, error) {
	e := Entry{Rev: rev}
	for len(b) > 0 {
		var ev Event
		var err error
		if b, err = c.parseEvent(b, &ev, rev); err != nil {
			return Entry{}, err
		}
		e.Events = append(e.Events, ev)
	}
	return e, nil
}

func (c Codec) parseEvent(b []byte, ev *Event, rev int64) ([]byte, error) {
	flags := b[0]
	if flags&^byte(flagsKnown) != 0 {
		return nil, ErrCorrupt
	}
	key, b, err := parseBytes(b[1:])
	if err != nil {
		return nil, err
	}
	ev.Delete = flags&flagDelete != 0
	ev.HasPrev = flags&flagPrev != 0
	ev.KV.Key, ev.KV.Mod = key, rev
	if !ev.Delete {
		if b, err = c.parseMeta(b, &ev.KV, flags&flagLease != 0, rev); err != nil {
			return nil, err
		}
		if ev.KV.Value, b, err = parseBytes(b); err != nil {
			return nil, err
		}
	}
	if !ev.HasPrev {
		return b, nil
	}
	ev.Prev.Key = key
	if ev.Prev.Mod, b, err = c.Refs.Parse(b, rev); err != nil {
		return nil, err
	}
	if b, err = c.parseMeta(b, &ev.Prev, flags&flagPrevLease != 0, rev); err != nil {
		return nil, err
	}
	ev.Prev.Value, b, err = parseBytes(b)
	return b, err
}
