package mvcc

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// sizeMax bounds sizes and offsets that are read from rows, so that their sums cannot overflow. No transaction holds
// more.
const sizeMax = math.MaxInt32

// record is the current version of a key as stored in its idx row. Values up to Options.InlineBytes lie in the row
// itself, so that a small object costs one read. Larger ones lie in val rows.
type record struct {
	create, mod, version, lease int64

	size  int // bytes of the value
	place revlog.Place
	value []byte // if inline
}

// inline reports whether the value lies in the row.
func (r *record) inline() bool { return r.place == revlog.PlaceInline }

// Flags of an idx row.
const (
	recordInline = 1 << iota
	recordLease
	recordOwn   // the value lies in rows under the record's stamp
	recordFlags = recordInline | recordLease | recordOwn
)

// appendRecord appends the idx row's value: the stamp of the row (that of r.mod, of which a pending one has only the
// index), flags, create as seen from mod, version, lease, size, and the value if it is inline.
func appendRecord(b []byte, refs revlog.RowRevs, r *record) []byte {
	st := engine.Stamp{}
	if i, pending := revlog.PendingIndex(r.mod); pending {
		st.Index = uint16(i)
	} else {
		st = refs.Space.Stamp(r.mod)
	}
	b = st.Append(b)
	var flags byte
	switch r.place {
	case revlog.PlaceInline:
		flags |= recordInline
	case revlog.PlaceOwn:
		flags |= recordOwn
	case revlog.PlaceOld: // no flag: format 1 has none
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
	if r.inline() {
		b = append(b, r.value...)
	}
	return b
}

// parseRecord decodes an idx row; an inline value points into b.
func parseRecord(b []byte, refs revlog.RowRevs, r *record) error {
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
	r.value = nil
	switch flags & (recordInline | recordOwn) {
	case recordInline:
		if len(b) != r.size {
			return ErrCorrupt
		}
		r.place, r.value = revlog.PlaceInline, b
		return nil
	case recordOwn:
		r.place = revlog.PlaceOwn
	case 0:
		r.place = revlog.PlaceOld
	default:
		return ErrCorrupt
	}
	if len(b) != 0 || r.size == 0 {
		return ErrCorrupt
	}
	return nil
}

// replaced is the content of a hist row: the version that the request with its stamp replaced or deleted, and where its
// value lies. That is an offset in the request's log entry, or one of the marks below.
type replaced struct {
	create, mod, version, lease int64
	at, size                    int
}

// An offset in a log entry is never that small: an event begins with its flags and its key.
const (
	atOwn = 0 // in rows under the stamp of the version that was replaced
	atOld = 1 // in rows under the key alone
)

// place tells where the value lies.
func (r *replaced) place() revlog.Place {
	switch {
	case r.size == 0:
		return revlog.PlaceInline
	case r.at == atOwn:
		return revlog.PlaceOwn
	case r.at == atOld:
		return revlog.PlaceOld
	}
	return revlog.PlaceInline
}

// replacedBytes is the length of a hist row's value, given the previous version and where the log entry has it.
func replacedBytes(p *revlog.KV, at revlog.PrevAt) int {
	return at.RowRevs + uvarintLen(uint64(p.Version)) + uvarintLen(uint64(p.Lease)) +
		uvarintLen(uint64(prevOffset(p, at.Value))) + uvarintLen(uint64(p.Bytes()))
}

// prevOffset is what a hist row stores as the place of a version's value. offset is where the value would lie in the
// log entry if it were inline.
func prevOffset(p *revlog.KV, offset int) int {
	switch p.Place {
	case revlog.PlaceOwn:
		return atOwn
	case revlog.PlaceOld:
		return atOld
	}
	return offset
}

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// appendReplaced encodes r as seen from a row with the (pending) revision own.
func appendReplaced(b []byte, refs revlog.RowRevs, r *replaced, own int64) []byte {
	b = refs.Append(b, r.mod, own)
	b = refs.Append(b, r.create, own)
	b = binary.AppendUvarint(b, uint64(r.version))
	b = binary.AppendUvarint(b, uint64(r.lease))
	b = binary.AppendUvarint(b, uint64(r.at))
	return binary.AppendUvarint(b, uint64(r.size))
}

func parseReplaced(b []byte, refs revlog.RowRevs, r *replaced, own int64) error {
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
