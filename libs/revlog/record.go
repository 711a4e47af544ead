package revlog

import (
	"encoding/binary"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revision"
)

// ErrCorrupt: bytes that were read from the store were not written by this package.
var ErrCorrupt = errors.New("revlog: corrupt record")

// Pending marks a revision that is not known before its group commits: Pending(i) stands for the revision of the
// group's request with index i. Pending revisions are negative; real ones never are.
func Pending(index int) int64 { return -int64(index) - 1 }

// PendingIndex returns the index of a pending revision and whether rev is one.
func PendingIndex(rev int64) (int, bool) { return int(-rev - 1), rev < 0 }

// RowRevs encodes revisions inside rows that have a stamp of their own. FoundationDB completes only one stamp per
// mutation. So a revision of the same group is written relative to the row's own stamp ("i requests before it"). Other
// revisions are written as whole stamps, so that a change of the base moves all revisions of a keyspace alike.
type RowRevs struct {
	Space revision.Space
}

// Append encodes rev as seen from a row stamped with own, which is pending if rev is.
func (r RowRevs) Append(b []byte, rev, own int64) []byte {
	if i, ok := PendingIndex(rev); ok {
		j, _ := PendingIndex(own)
		return binary.AppendUvarint(b, uint64(j-i)<<1|1)
	}
	st := r.Space.Stamp(rev)
	b = binary.AppendUvarint(b, st.Version<<1)
	return binary.AppendUvarint(b, uint64(st.Index))
}

// Parse decodes what Append wrote, given the revision own of the row.
func (r RowRevs) Parse(b []byte, own int64) (rev int64, rest []byte, err error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, ErrCorrupt
	}
	b = b[n:]
	if v&1 == 1 {
		d := int64(v >> 1)
		if d > own {
			return 0, nil, ErrCorrupt
		}
		return own - d, b, nil
	}
	idx, n := binary.Uvarint(b)
	if n <= 0 || idx >= uint64(r.Space.GroupMax()) {
		return 0, nil, ErrCorrupt
	}
	return r.Space.Of(engine.Stamp{Version: v >> 1, Index: uint16(idx)}), b[n:], nil
}

// parseBytes returns a slice of b; it never copies.
func parseBytes(b []byte) (v, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, nil, ErrCorrupt
	}
	end := k + int(n)
	return b[k:end:end], b[end:], nil
}

func parseUint(b []byte) (v uint64, rest []byte, err error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, ErrCorrupt
	}
	return v, b[n:], nil
}
