package mvcc

import (
	"encoding/binary"
	"math"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// sizeMax bounds sizes and offsets that are read from rows, so that their sums are safe; it is as much as a transaction holds.
const sizeMax = math.MaxInt32

// record is the current version of a key as its idx row has it. Values up to Options.InlineBytes lie in the row itself, so that
// reading a small object is one read; others lie in val rows.
type record struct {
	create, mod, version, lease int64

	size   int // bytes of the value
	inline bool
	value  []byte // if inline
}

// Flags of an idx row.
const (
	recordInline = 1 << iota
	recordLease
	recordFlags = recordInline | recordLease
)

// appendRecord appends the idx row's value: the stamp of the row (whose index is that of r.mod, pending), flags, create as seen
// from mod, version, lease, size, and the value if it is inline.
func appendRecord(b []byte, refs revlog.Refs, r *record) []byte {
	i, _ := revlog.PendingIndex(r.mod)
	b = engine.Stamp{Index: uint16(i)}.Append(b)
	var flags byte
	if r.inline {
		flags |= recordInline
	}
	if r.lease != 0 {
		flags |= recordLease
	}
	b = append(b, flags)
	b = refs.Append(b, r.create, r.mod)
	b = binary.AppendUvarint(b, uint64(r.version))
	if r.lease != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(r.lease))
	}
	b = binary.AppendUvarint(b, uint64(r.size))
	if r.inline {
		b = append(b, r.value...)
	}
	return b
}

// parseRecord decodes an idx row; an inline value points into b.
func parseRecord(b []byte, refs revlog.Refs, r *record) error {
	st, err := engine.ParseStamp(b)
	if err != nil || len(b) == engine.StampLen {
		return ErrCorrupt
	}
	r.mod = refs.Space.Of(st)
	flags := b[engine.StampLen]
	if flags&^byte(recordFlags) != 0 {
		return ErrCorrupt
	}
	if r.create, b, err = refs.Parse(b[engine.StampLen+1:], r.mod); err != nil {
		return ErrCorrupt
	}
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return ErrCorrupt
	}
	r.version, b = int64(v), b[n:]
	r.lease = 0
	if flags&recordLease != 0 {
		if len(b) < 8 {
			return ErrCorrupt
		}
		r.lease, b = int64(binary.BigEndian.Uint64(b)), b[8:]
	}
	size, n := binary.Uvarint(b)
	if n <= 0 || size > sizeMax {
		return ErrCorrupt
	}
	r.size, b = int(size), b[n:]
	r.inline, r.value = flags&recordInline != 0, nil
	if r.inline {
		if len(b) != r.size {
			return ErrCorrupt
		}
		r.value = b
	}
	return nil
}

// replaced is what a hist row says: the version that the request of its stamp replaced or deleted, and where in that
// request's log entry the value lies.
type replaced struct {
	create, mod, version, lease int64
	at, size                    int
}

// appendReplaced encodes r as seen from a row with the (pending) revision own.
func appendReplaced(b []byte, refs revlog.Refs, r *replaced, own int64) []byte {
	b = refs.Append(b, r.mod, own)
	b = refs.Append(b, r.create, own)
	b = binary.AppendUvarint(b, uint64(r.version))
	b = binary.AppendUvarint(b, uint64(r.lease))
	b = binary.AppendUvarint(b, uint64(r.at))
	return binary.AppendUvarint(b, uint64(r.size))
}

func parseReplaced(b []byte, refs revlog.Refs, r *replaced, own int64) error {
	var err error
	if r.mod, b, err = refs.Parse(b, own); err != nil {
		return ErrCorrupt
	}
	if r.create, b, err = refs.Parse(b, own); err != nil {
		return ErrCorrupt
	}
	var u [4]uint64
	for i := range u {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return ErrCorrupt
		}
		u[i], b = v, b[n:]
	}
	if len(b) != 0 || u[2] > sizeMax || u[3] > sizeMax {
		return ErrCorrupt
	}
	r.version, r.lease, r.at, r.size = int64(u[0]), int64(u[1]), int(u[2]), int(u[3])
	return nil
}
