package history

import (
	"encoding/binary"
	"time"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// Rows: 'i' holds the identity. 'e' and the revision of its last entry: entries that follow each other, as the log has
// them.
const (
	rowIdentity = "i"
	rowEntry    = 'e'
	rowAfter    = "f"
)

// rowsFormat begins the identity. Whoever knows other formats empties the directory.
const rowsFormat = 2

// identity is the row of the identity: the format, how the entries are encoded, and whose they are.
func (o *Options) identity() []byte {
	b := append([]byte(nil), rowsFormat)
	b = binary.BigEndian.AppendUint64(b, uint64(o.Codec.Space.Base))
	b = binary.AppendUvarint(b, uint64(o.Codec.Space.Shift))
	return append(b, o.Identity...)
}

// entryKey is the key of a row whose last entry has a revision.
func entryKey(rev int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{rowEntry}, uint64(rev))
}

// rowHeader is the size of a row's header: the revision of the entry before, and the time of writing in Unix seconds, 8
// bytes each, big-endian. The entries follow, each as the difference of its revision to that of the one before, its
// length, and its bytes as the log has them. Numbers are uvarints.
const rowHeader = 16

// appendRow appends the value of a row with the first of entries that follow the revision prev: as many as fit into
// limit bytes, but at least one. It returns what is left of the entries.
func appendRow(
	b []byte, entries []revlog.Payload, prev int64, at time.Time, limit int,
) (row []byte, left []revlog.Payload) {
	b = binary.BigEndian.AppendUint64(b, uint64(prev))
	b = binary.BigEndian.AppendUint64(b, uint64(at.Unix()))
	for n := 0; n < len(entries); n++ {
		e := &entries[n]
		if n > 0 && len(b)+len(e.Bytes) > limit {
			return b, entries[n:]
		}
		b = binary.AppendUvarint(b, uint64(e.Rev-prev))
		b = binary.AppendUvarint(b, uint64(len(e.Bytes)))
		b = append(b, e.Bytes...)
		prev = e.Rev
	}
	return b, nil
}

// row is a stored row, of which nothing but the header has been decoded.
type row struct {
	last int64 // revision of its last entry
	prev int64 // revision of the entry before its first
	at   time.Time
	rest []byte // its entries
}

func parseRow(key, value []byte) (row, error) {
	if len(key) != 9 || key[0] != rowEntry || len(value) <= rowHeader {
		return row{}, errCorrupt
	}
	r := row{
		last: int64(binary.BigEndian.Uint64(key[1:])),
		prev: int64(binary.BigEndian.Uint64(value)),
		at:   time.Unix(int64(binary.BigEndian.Uint64(value[8:])), 0),
		rest: value[rowHeader:],
	}
	if r.prev < 0 || r.last <= r.prev {
		return row{}, errCorrupt
	}
	return r, nil
}

// visit calls f with the row's entries until f returns false. They point into the row. Errors: errCorrupt.
func (r *row) visit(f func(revlog.Payload) bool) error {
	rev := r.prev
	for b := r.rest; len(b) > 0; {
		step, n := binary.Uvarint(b)
		if n <= 0 || step == 0 || step > uint64(r.last-rev) {
			return errCorrupt
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return errCorrupt
		}
		rev += int64(step)
		end := n + int(size)
		if !f(revlog.Payload{Rev: rev, Bytes: b[n:end:end]}) {
			return nil
		}
		b = b[end:]
	}
	if rev != r.last {
		return errCorrupt
	}
	return nil
}
